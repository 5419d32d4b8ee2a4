// The mesh cases: which files, and what may differ between the engines. Called by main.ts and mesh.test.ts.
import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { parse } from 'yaml';
import type { EngineDifference } from '../../../src/insight/policy-lab/engines-compare.ts';
import type { MeshTest } from '../../../src/insight/policy-lab/format.ts';
import { readMeshTests } from '../../../src/insight/policy-lab/read.ts';

const CASES = path.join(import.meta.dirname, 'cases');

export interface KnownDifference {
  /** `<test>/<request>`. */
  readonly request: string;
  readonly reason: string;
}

/** Throws with every problem of every file. */
export function loadMeshTests(): ReadonlyMap<string, readonly MeshTest[]> {
  const out = new Map<string, readonly MeshTest[]>();
  const problems: string[] = [];
  for (const file of globSync('*.yaml', { cwd: CASES }).sort()) {
    const read = readMeshTests(file, {
      read: (name) => readFileSync(path.resolve(CASES, name), 'utf8'),
      expand: (pattern) => globSync(pattern, { cwd: CASES }).sort(),
    });
    problems.push(...read.problems.map((p) => `${file}:${p.line}: ${p.message}`));
    out.set(file, read.tests);
  }
  if (problems.length > 0) throw new Error(problems.join('\n'));
  return out;
}

/** differences.yaml, with the reason of each; the same reasons stand in docs/reference/engine-differences.md. */
export function knownDifferences(): readonly KnownDifference[] {
  const value: unknown = parse(readFileSync(path.join(import.meta.dirname, 'differences.yaml'), 'utf8'));
  return (value as readonly KnownDifference[] | null) ?? [];
}

export function unexplained(
  found: readonly EngineDifference[],
  known: readonly KnownDifference[],
): readonly EngineDifference[] {
  return found.filter((d) => !known.some((k) => k.request === `${d.test}/${d.request}`));
}
