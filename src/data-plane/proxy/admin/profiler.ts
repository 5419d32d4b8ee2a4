// /cpuprofiler, /heapprofiler, /allocprofiler and /heap_dump: what all threads measured (thread-profiler.ts) as one profile for
// pprof. The first two write it to admin.profile_path when they end, as Envoy does; the others answer with it.
import { errorText } from '../../../base/runtime/log.ts';
import { HEAP_SAMPLE_BYTES } from '../limits.ts';
import { encodeProfile, type Profile } from './pprof.ts';
import type { AdminReply, AdminTarget } from './target.ts';
import { OK } from './target.ts';
import { type ProfileKind, type ProfileQuestion, word } from './thread-profiler.ts';

const DEFAULT_PROFILE_PATH = '/var/log/envoy/envoy.prof';
const BYTES = { type: 'space', unit: 'bytes' };
const NANOS = { type: 'cpu', unit: 'nanoseconds' };
const SAMPLES = { type: 'samples', unit: 'count' };

/** When each began: one of a kind runs at a time. */
const started = new WeakMap<AdminTarget, Map<ProfileKind, number>>();

function startedOf(target: AdminTarget): Map<ProfileKind, number> {
  const known = started.get(target) ?? new Map<ProfileKind, number>();
  started.set(target, known);
  return known;
}

export async function profiler(kind: ProfileKind, target: AdminTarget, query: URLSearchParams): Promise<AdminReply> {
  const enable = query.get('enable');
  if (enable !== 'y' && enable !== 'n') return { status: 400, body: '?enable=<y|n>\n' };
  const running = startedOf(target);
  const began = running.get(kind);
  if (enable === 'y') {
    if (began !== undefined) return alreadyOn(kind);
    const other = kind === 'heap' ? 'alloc' : 'heap';
    // V8 has one sampler of memory.
    if (kind !== 'cpu' && running.has(other))
      return { status: 400, body: `/${other}profiler is on, and only one of the two can be` };
    running.set(kind, target.clock.now());
    try {
      await target.askThreads({ kind: 'profile-start', what: kind });
    } catch (error) {
      running.delete(kind);
      return { status: 500, body: `failure to start the profiler: ${errorText(error)}` };
    }
    return OK;
  }
  if (began === undefined) return kind === 'alloc' ? { status: 400, body: 'Allocation profiler is not started' } : OK;
  running.delete(kind);
  const profile = await gathered(target, { kind: 'profile-stop', what: kind }, kind, target.clock.now() - began);
  if (kind === 'alloc') return { body: profile };
  try {
    const { writeFile } = await import('node:fs/promises');
    await writeFile(target.bootstrap.admin?.profilePath || DEFAULT_PROFILE_PATH, profile);
    return OK;
  } catch (error) {
    return { status: 500, body: `failure to write the profile: ${errorText(error)}\n` };
  }
}

function alreadyOn(kind: ProfileKind): AdminReply {
  if (kind === 'cpu') return { status: 500, body: 'failure to start the profiler' };
  return { status: 400, body: `${kind === 'heap' ? 'Heap' : 'Allocation'} profiler has already started` };
}

export async function heapDump(target: AdminTarget): Promise<AdminReply> {
  return { body: await gathered(target, { kind: 'memory' }, 'heap') };
}

async function gathered(
  target: AdminTarget,
  question: ProfileQuestion,
  kind: ProfileKind,
  durationMs?: number,
): Promise<Uint8Array> {
  const threads = await target.askThreads(question);
  const value = kind === 'cpu' ? NANOS : BYTES;
  const profile: Profile = {
    types: [SAMPLES, value],
    samples: threads.flatMap(({ thread, answer }) =>
      answer.map(({ stack, values }) => ({ stack: [...stack, word(thread)], values })),
    ),
    period: { type: value, value: kind === 'cpu' ? 1_000_000 : HEAP_SAMPLE_BYTES },
    time: target.clock.now(),
    ...(durationMs === undefined ? {} : { durationMs }),
  };
  const { gzip } = await import('node:zlib');
  return new Promise((resolve, reject) => {
    gzip(encodeProfile(profile), (error, bytes) => (error ? reject(error) : resolve(bytes)));
  });
}
