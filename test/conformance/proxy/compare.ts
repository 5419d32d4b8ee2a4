// Compares what the two engines did, key by key, and holds the case's list of allowed differences against it: a difference
// that is not listed fails, and so does a listed one that does not occur. Pure. Called by main.ts.
import { type Case, list } from './format.ts';
import type { Observation } from './observation.ts';

export interface Divergence {
  readonly key: string;
  readonly meltemi: string | undefined;
  readonly envoy: string | undefined;
}

export interface Comparison {
  readonly different: readonly Divergence[];
  /** Patterns of `differs` under which nothing differed. */
  readonly unused: readonly string[];
}

const matches = (pattern: string, key: string): boolean =>
  new RegExp(
    `^${pattern
      .split('*')
      .map((part) => part.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&'))
      .join('.*')}$`,
  ).test(key);

/** The reason of a refusal is worded by each engine; the case's own expectation judges it. */
const NOT_COMPARED: readonly string[] = ['refused', 'stdout', 'stderr'];

export function compare(test: Case, meltemi: Observation, envoy: Observation): Comparison {
  const allowed = list(test.differs).flatMap((difference) => difference.in);
  const used = new Set<string>();
  const different: Divergence[] = [];
  for (const key of new Set([...meltemi.keys(), ...envoy.keys()])) {
    const a = meltemi.get(key);
    const b = envoy.get(key);
    // The order of headers counts only where the step asks for it: messages that could be read are compared piece by piece.
    const step = /^step(\d+)\.raw$/.exec(key);
    if (step && meltemi.has(`step${step[1]}.start`) && !test.steps?.[Number(step[1]) - 1]?.show_raw) continue;
    if (a === b || list(test.random).some((pattern) => matches(pattern, key))) continue;
    // Which cipher of the allowed ones is preferred is each engine's own choice (AES-128 is cheaper in ours).
    if (key.endsWith('.tls.cipher')) continue;
    if (NOT_COMPARED.includes(key) && a !== undefined && b !== undefined) continue;
    const patterns = allowed.filter((pattern) => matches(pattern, key));
    for (const pattern of patterns) used.add(pattern);
    if (patterns.length === 0) different.push({ key, meltemi: a, envoy: b });
  }
  return { different, unused: allowed.filter((pattern) => !used.has(pattern)) };
}
