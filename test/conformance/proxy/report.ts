// Prints what went wrong in a case: where it stands, what was sent, what was expected, what each engine did. Called by main.ts.
import type { Comparison } from './compare.ts';
import { quoted } from './expect.ts';
import type { LoadedCase } from './format.ts';
import type { CaseRun } from './run-file.ts';
import { describeStep } from './session.ts';

const MAX_DIFFERENCES = 25;
const MAX_TEXT = 600;

const short = (text: string): string => (text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text);

export function reportCase(
  test: LoadedCase,
  runs: ReadonlyMap<string, CaseRun>,
  comparison: Comparison | undefined,
): string {
  const lines = [`✖ test/conformance/proxy/${test.where} ${test.name}`];
  for (const [i, step] of (test.steps ?? []).entries()) lines.push(`    step ${i + 1}: ${short(describeStep(step))}`);
  for (const [engine, run] of runs) {
    const harness = run.seen.get('harness');
    if (harness !== undefined) lines.push(`  ${engine}: ${short(harness)}`);
    const refused = run.seen.get('refused');
    if (refused !== undefined && test.refused === undefined)
      lines.push(`  ${engine} refuses the configuration: ${short(refused)}`);
    else if (harness === undefined)
      for (const failure of run.failures)
        lines.push(
          `  ${engine}: ${failure.key}\n      expected ${short(failure.expected)}\n      got      ${short(failure.got)}`,
        );
  }
  const refusedOnce = [...runs.values()].some((run) => run.seen.has('refused') || run.seen.has('harness'));
  if (comparison && !refusedOnce) {
    for (const one of comparison.different.slice(0, MAX_DIFFERENCES))
      lines.push(
        `  differs: ${one.key}\n      meltemi ${short(quoted(one.meltemi))}\n      envoy   ${short(quoted(one.envoy))}`,
      );
    if (comparison.different.length > MAX_DIFFERENCES)
      lines.push(`  … and ${comparison.different.length - MAX_DIFFERENCES} more`);
    for (const pattern of comparison.unused)
      lines.push(`  listed under "differs" but equal on both engines: ${pattern}`);
  }
  return lines.join('\n');
}

export function failed(runs: ReadonlyMap<string, CaseRun>, comparison: Comparison | undefined): boolean {
  for (const run of runs.values()) if (run.failures.length > 0 || run.seen.has('harness')) return true;
  return comparison !== undefined && (comparison.different.length > 0 || comparison.unused.length > 0);
}
