// Profiles of all threads, read back with a reader of our own; that no string of the process but names of code is in them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import { systemClock } from '../../../base/runtime/clock.ts';
import { encodeProfile } from './pprof.ts';
import { heapDump, profiler } from './profiler.ts';
import { lookupsText } from './recent-lookups.ts';
import type { AdminTarget, ThreadQuestion } from './target.ts';
import { ThreadProfiler } from './thread-profiler.ts';

interface Read {
  readonly types: string[];
  readonly samples: { readonly stack: string[]; readonly values: number[] }[];
  readonly strings: string[];
}

type Fields = Map<number, (number | Uint8Array)[]>;

function fields(bytes: Uint8Array): Fields {
  const reader = new BinaryReader(bytes);
  const out: Fields = new Map();
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    const value = type === WireType.LengthDelimited ? reader.bytes() : Number(reader.int64());
    out.set(field, [...(out.get(field) ?? []), value]);
  }
  return out;
}

function packed(bytes: Uint8Array): number[] {
  const reader = new BinaryReader(bytes);
  const out: number[] = [];
  while (reader.pos < reader.len) out.push(Number(reader.int64()));
  return out;
}

function read(bytes: Uint8Array): Read {
  const profile = fields(bytes);
  const messages = (field: number): Fields[] => (profile.get(field) ?? []).map((each) => fields(each as Uint8Array));
  const number = (message: Fields, field: number): number => Number(message.get(field)?.[0] ?? 0);
  const strings = profile.get(6)!.map((each) => Buffer.from(each as Uint8Array).toString());
  const functions = new Map(messages(5).map((each) => [number(each, 1), strings[number(each, 2)]!]));
  const locations = new Map(
    messages(4).map((each) => [number(each, 1), functions.get(number(fields(each.get(4)![0] as Uint8Array), 1))!]),
  );
  return {
    types: messages(1).map((each) => `${strings[number(each, 1)]}/${strings[number(each, 2)]}`),
    samples: messages(2).map((each) => ({
      stack: packed(each.get(1)![0] as Uint8Array).map((id) => locations.get(id)!),
      values: packed(each.get(2)![0] as Uint8Array),
    })),
    strings,
  };
}

/** Two threads that are the same one. */
function target(): AdminTarget {
  const profilers = [new ThreadProfiler(systemClock)];
  return {
    clock: systemClock,
    bootstrap: {},
    async askThreads(question: ThreadQuestion) {
      assert.notEqual(question.kind, 'lookups');
      if (question.kind === 'lookups') return [];
      return Promise.all(
        profilers.map(async (each, i) => ({ thread: `worker ${i}`, answer: await each.answer(question) })),
      );
    },
  } as unknown as AdminTarget;
}

const ask = (text: string): URLSearchParams => new URLSearchParams(text);

test('the form of a profile', () => {
  const at = (name: string) => ({ name, file: 'a.ts', line: 3 });
  const bytes = encodeProfile({
    types: [{ type: 'space', unit: 'bytes' }],
    samples: [
      { stack: [at('inner'), at('outer')], values: [7] },
      { stack: [at('outer')], values: [5e12] },
    ],
    time: 1,
  });
  const profile = read(bytes);
  assert.deepEqual([profile.strings[0], profile.types], ['', ['space/bytes']]);
  assert.deepEqual(profile.samples, [
    { stack: ['inner', 'outer'], values: [7] },
    { stack: ['outer'], values: [5e12] },
  ]);
});

test('the heap of every thread now, without any string that is data', async () => {
  const secret = `secret-${Math.random()}`;
  const kept = [{ secret, key: Buffer.from(secret) }];
  const proxy = target();
  const bytes = gunzipSync((await heapDump(proxy)).body as Uint8Array);
  const dump = read(bytes);
  assert.deepEqual(dump.types, ['samples/count', 'space/bytes']);
  const total = dump.samples.reduce((sum, { values }) => sum + values[1]!, 0);
  const { heapUsed, external } = process.memoryUsage();
  assert.ok(total > heapUsed / 4 && total < 4 * (heapUsed + external), `${total} of ${heapUsed}`);
  assert.ok(dump.samples.some(({ stack }) => stack.join() === 'old_space,V8 heap,worker 0'));
  assert.ok(!bytes.includes(kept[0]!.secret));
});

test('stacks while the heap profiler is on; allocations as the answer', async () => {
  const proxy = target();
  assert.equal((await profiler('heap', proxy, ask('enable=y'))).body, 'OK\n');
  assert.equal((await profiler('heap', proxy, ask('enable=y'))).status, 400);
  assert.equal((await profiler('alloc', proxy, ask('enable=y'))).status, 400, 'V8 has one sampler');
  const kept: object[] = [];
  (function allocatedHere() {
    for (let i = 0; i < 100_000; i++) kept.push({ i, text: [i] });
  })();
  const dump = read(gunzipSync((await heapDump(proxy)).body as Uint8Array));
  assert.ok(dump.samples.some(({ stack, values }) => stack.includes('allocatedHere') && values[0]! > 0));
  assert.ok(kept.length > 0);
  assert.match(String((await profiler('heap', proxy, ask('enable=n'))).body), /^(OK|failure to write the profile)/);

  assert.equal((await profiler('alloc', proxy, ask('enable=n'))).body, 'Allocation profiler is not started');
  assert.equal((await profiler('alloc', proxy, ask('enable=y'))).body, 'OK\n');
  assert.equal((await profiler('alloc', proxy, ask('enable=y'))).body, 'Allocation profiler has already started');
  (function forgottenHere() {
    for (let i = 0; i < 1_000_000; i++) kept[0] = { i, text: [i] };
  })();
  const made = read(gunzipSync((await profiler('alloc', proxy, ask('enable=n'))).body as Uint8Array));
  assert.ok(made.samples.some(({ stack }) => stack.includes('forgottenHere')));
  assert.ok(made.samples.every(({ stack }) => stack.at(-1) === 'worker 0'));
});

test('recent lookups of all threads', () => {
  assert.equal(
    lookupsText([
      { total: 3, recent: undefined },
      { total: 4, recent: undefined },
    ]),
    'Lookup tracking is not enabled. Use /stats/recentlookups/enable to enable.\n\ntotal: 7\n',
  );
  assert.equal(
    lookupsText([
      { total: 2, recent: [['b', 1]] },
      {
        total: 5,
        recent: [
          ['b', 2],
          ['c', 1],
          ['a', 1],
        ],
      },
    ]),
    '   Count Lookup\n       1 a\n       1 c\n       3 b\n\ntotal: 7\n',
  );
});
