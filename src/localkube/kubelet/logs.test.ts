import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import type { Clock } from '../../base/runtime/clock.ts';
import { readLogTimes, timesFile } from './log-keeper.ts';
import { type LogSource, streamLog } from './logs.ts';

const dir = mkdtempSync(path.join(tmpdir(), 'kubelet-logs-'));
after(() => rmSync(dir, { recursive: true, force: true }));
const clock: Clock = {
  now: () => 100_000,
  after: (ms, run) => {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
};
let files = 0;

function written(text: string, times = ''): string {
  const file = path.join(dir, `${++files}.log`);
  writeFileSync(file, text);
  if (times) writeFileSync(timesFile(file), times);
  return file;
}
const ended = (file: string): LogSource => ({ file, live: () => false, onEnd: () => () => {} });

async function read(source: LogSource, options: Partial<Parameters<typeof streamLog>[1]> = {}): Promise<string> {
  let out = '';
  await streamLog(
    source,
    { follow: false, timestamps: false, ...options },
    clock,
    (chunk) => {
      out += chunk;
    },
    new AbortController().signal,
  );
  return out;
}

test('tail counts lines, also an unfinished last one', async () => {
  const file = written('1\n2\n3\n');
  const cases: readonly (readonly [number, string])[] = [
    [0, ''],
    [1, '3\n'],
    [2, '2\n3\n'],
    [3, '1\n2\n3\n'],
    [9, '1\n2\n3\n'],
  ];
  for (const [tailLines, text] of cases) assert.equal(await read(ended(file), { tailLines }), text);
  assert.equal(await read(ended(written('1\n2\n3')), { tailLines: 2 }), '2\n3');
  assert.equal(await read(ended(written('')), { tailLines: 2 }), '');
  const long = written(`${'x'.repeat(200_000)}\nlast\n`);
  assert.equal((await read(ended(long), { tailLines: 2 })).length, 200_006);
});

test('times come from what was noted', async () => {
  const file = written('a\nb\nc', '2 50000\n4 60000\nbroken\n');
  assert.equal(
    await read(ended(file), { timestamps: true }),
    '1970-01-01T00:00:50.000000000Z a\n1970-01-01T00:01:00.000000000Z b\n1970-01-01T00:01:40.000000000Z c',
  );
  assert.equal(await read(ended(file), { sinceSeconds: 45 }), 'b\nc');
  assert.equal(await read(ended(file), { sinceTime: '1970-01-01T00:00:55Z', tailLines: 1 }), 'c');
  assert.equal(readLogTimes(`${file}none`, 7).at(3), 7);
});

test('a byte limit cuts', async () => {
  assert.equal(await read(ended(written('12345\n')), { limitBytes: 3 }), '123');
});

test('following sees what is appended, survives a cut, and ends with the container', async () => {
  const file = written('one\n');
  let live = true;
  let onEnd = (): void => {};
  const source: LogSource = {
    file,
    live: () => live,
    onEnd: (handler) => {
      onEnd = handler;
      return () => {};
    },
  };
  let out = '';
  const seen = (text: string) =>
    new Promise<void>((resolve) => {
      const look = (): void => {
        if (out.endsWith(text)) resolve();
        else setTimeout(look, 2);
      };
      look();
    });
  const done = streamLog(
    source,
    { follow: true, timestamps: false },
    clock,
    (chunk) => {
      out += chunk;
    },
    new AbortController().signal,
  );
  await seen('one\n');
  appendFileSync(file, 'two\n');
  await seen('two\n');
  truncateSync(file, 0);
  appendFileSync(file, '3\n');
  await seen('3\n');
  appendFileSync(file, 'end\n');
  live = false;
  onEnd();
  await done;
  assert.equal(out, 'one\ntwo\n3\nend\n');
});
