// Profiles of one thread: CPU by V8's sampler, memory by its sampling heap profiler, and what memory is used for now. Every thread
// has one of these; the main thread's pages ask all of them. Nothing is loaded or measured before somebody asks.
//
// Why not a heap snapshot: on the proxy without configuration (a heap of 20 MB) it stops the thread for 0.7 s and takes 130 MB
// more, and it holds every string of the process, private keys among them. Why no sampling from the start: it costs every
// allocation a little, and at an interval where it does not, a heap of this size has a handful of samples. So the heap dump
// counts what V8 counts anyway, exactly and at once; stacks are added while /heapprofiler is on. Names of functions and files
// are all the text there is.

import type { HeapProfiler, Profiler } from 'node:inspector';
import type { Session } from 'node:inspector/promises';
import type { Clock } from '../../../base/runtime/clock.ts';
import { HEAP_SAMPLE_BYTES, MAX_PROFILE_MS, MAX_PROFILE_SAMPLES } from '../limits.ts';
import type { Frame, Sample } from './pprof.ts';

export type ProfileKind = 'cpu' | 'heap' | 'alloc';

export type ProfileQuestion =
  | { readonly kind: 'profile-start'; readonly what: ProfileKind }
  /** Samples since the start; values of `cpu`: samples and nanoseconds, else samples and bytes. */
  | { readonly kind: 'profile-stop'; readonly what: ProfileKind }
  /** What memory is used for: 0 and bytes, or samples and bytes. */
  | { readonly kind: 'memory' };

interface Running {
  readonly session: Session;
  readonly cancel: () => void;
  /** It lasted too long and was ended; these are kept until they are asked for. */
  result: Promise<Sample[]> | undefined;
}

export class ThreadProfiler {
  readonly #clock: Clock;
  readonly #running = new Map<ProfileKind, Running>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async answer(question: ProfileQuestion): Promise<readonly Sample[]> {
    switch (question.kind) {
      case 'profile-start':
        await this.#start(question.what);
        return [];
      case 'profile-stop':
        return this.#stop(question.what);
      case 'memory':
        return this.#memory();
    }
  }

  async #start(what: ProfileKind): Promise<void> {
    if (this.#running.has(what)) return;
    const inspector = await import('node:inspector/promises');
    const session = new inspector.Session();
    session.connect();
    const running: Running = {
      session,
      cancel: this.#clock.after(MAX_PROFILE_MS, () => {
        running.result = take(what, session);
        running.result.catch(() => {});
      }),
      result: undefined,
    };
    this.#running.set(what, running);
    if (what === 'cpu') {
      await session.post('Profiler.enable');
      await session.post('Profiler.start');
      return;
    }
    const all = what === 'alloc';
    await session.post('HeapProfiler.startSampling', {
      samplingInterval: HEAP_SAMPLE_BYTES,
      includeObjectsCollectedByMajorGC: all,
      includeObjectsCollectedByMinorGC: all,
    });
  }

  async #stop(what: ProfileKind): Promise<readonly Sample[]> {
    const running = this.#running.get(what);
    if (!running) return [];
    this.#running.delete(what);
    running.cancel();
    return running.result ?? take(what, running.session);
  }

  async #memory(): Promise<readonly Sample[]> {
    const { getHeapSpaceStatistics, getHeapStatistics } = process.getBuiltinModule('node:v8');
    const { external, arrayBuffers } = process.memoryUsage();
    const out: Sample[] = [];
    const running = this.#running.get('heap');
    let seen = 0;
    if (running && !running.result) {
      const { profile } = await running.session.post('HeapProfiler.getSamplingProfile');
      const sampled = heapSamples(profile);
      for (const { values } of sampled) seen += values[1]!;
      out.push(...sampled);
    }
    const spaces = getHeapSpaceStatistics().map((each) => [each.space_name, each.space_used_size] as const);
    const used = spaces.reduce((sum, [, bytes]) => sum + bytes, 0);
    // What samples stand for is taken from every space alike: which one an object is in they do not say.
    const rest = used === 0 ? 0 : Math.max(0, 1 - seen / used);
    for (const [name, bytes] of spaces) add(out, [word(name), word('V8 heap')], bytes * rest);
    add(out, [word('array buffers'), word('outside the V8 heap')], arrayBuffers);
    add(out, [word('other external memory'), word('outside the V8 heap')], external - arrayBuffers);
    add(out, [word("V8's own structures"), word('outside the V8 heap')], getHeapStatistics().malloced_memory);
    return out;
  }
}

function add(out: Sample[], stack: readonly Frame[], bytes: number): void {
  if (bytes >= 1) out.push({ stack, values: [0, bytes] });
}

/** A frame that is no function. */
export function word(name: string): Frame {
  return { name, file: '', line: 0 };
}

async function take(what: ProfileKind, session: Session): Promise<Sample[]> {
  try {
    if (what === 'cpu') return cpuSamples((await session.post('Profiler.stop')).profile);
    return heapSamples((await session.post('HeapProfiler.stopSampling')).profile);
  } finally {
    session.disconnect();
  }
}

function frameOf(call: { readonly functionName: string; readonly url: string; readonly lineNumber: number }): Frame {
  return { name: call.functionName || '(anonymous)', file: call.url, line: call.lineNumber + 1 };
}

/** The largest ones, when there are too many. */
function bounded(samples: Sample[]): Sample[] {
  if (samples.length <= MAX_PROFILE_SAMPLES) return samples;
  return samples.sort((a, b) => b.values[1]! - a.values[1]!).slice(0, MAX_PROFILE_SAMPLES);
}

/** What the inspector's types leave out. */
type HeapNode = HeapProfiler.SamplingHeapProfileNode & { readonly id: number; readonly children: readonly HeapNode[] };
type HeapProfile = { readonly head: HeapNode; readonly samples: readonly { readonly nodeId: number }[] };

function heapSamples(profile: HeapProfiler.SamplingHeapProfile): Sample[] {
  const { head, samples } = profile as unknown as HeapProfile;
  const counts = new Map<number, number>();
  for (const { nodeId } of samples) counts.set(nodeId, (counts.get(nodeId) ?? 0) + 1);
  const out: Sample[] = [];
  const walk = (node: HeapNode, above: readonly Frame[]): void => {
    const stack = node === head ? above : [frameOf(node.callFrame), ...above];
    if (node.selfSize > 0) out.push({ stack, values: [counts.get(node.id) ?? 0, node.selfSize] });
    for (const child of node.children) walk(child, stack);
  };
  walk(head, []);
  return bounded(out);
}

function cpuSamples({ nodes, samples = [], timeDeltas = [] }: Profiler.Profile): Sample[] {
  const parents = new Map<number, Profiler.ProfileNode>();
  const byId = new Map<number, Profiler.ProfileNode>();
  for (const node of nodes) {
    byId.set(node.id, node);
    for (const child of node.children ?? []) parents.set(child, node);
  }
  const spent = new Map<number, { count: number; nanos: number }>();
  for (const [i, id] of samples.entries()) {
    const at = spent.get(id) ?? { count: 0, nanos: 0 };
    at.count += 1;
    at.nanos += Math.max(0, timeDeltas[i + 1] ?? 0) * 1000;
    spent.set(id, at);
  }
  const out: Sample[] = [];
  for (const [id, { count, nanos }] of spent) {
    if (byId.get(id)?.callFrame.functionName === '(idle)') continue;
    const stack: Frame[] = [];
    for (let node = byId.get(id); node; node = parents.get(node.id))
      if (node.callFrame.functionName !== '(root)') stack.push(frameOf(node.callFrame));
    out.push({ stack, values: [count, nanos] });
  }
  return bounded(out);
}
