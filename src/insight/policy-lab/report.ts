// Results in the forms `-o json|junit|tap`. The text form is report-text.ts. Pure.
import type { Difference } from './compare.ts';
import type { EngineDifference } from './engines-compare.ts';
import type { TestResult } from './run.ts';
import type { RequestResult } from './run-request.ts';

export interface Totals {
  /** Requests, and tests whose mesh could not be started. */
  readonly passed: number;
  readonly failed: number;
}

export function totals(results: readonly TestResult[], engines: readonly EngineDifference[] = []): Totals {
  const requests = results.flatMap((r) => r.requests);
  const broken = results.filter((r) => r.error !== undefined).length;
  return {
    passed: requests.filter((r) => r.pass).length,
    failed: requests.filter((r) => !r.pass).length + broken + engines.length,
  };
}

export function jsonReport(results: readonly TestResult[], engines: readonly EngineDifference[]): string {
  const tests = results.map(({ file, name, engine, requests, error }) => ({
    file,
    name,
    engine,
    requests: requests.map(({ line: _, ...rest }) => rest),
    ...(error === undefined ? {} : { error }),
  }));
  const differing = engines.length > 0 ? { engineDifferences: engines } : {};
  return `${JSON.stringify({ tests, ...differing, ...totals(results, engines) }, null, 2)}\n`;
}

/** One line for a difference: `expect.status: expected 200, got 404`. */
export function differenceText(difference: Difference): string {
  const shown = (value: unknown): string => {
    const text = typeof value === 'string' ? value : JSON.stringify(value);
    return text.length > 300 ? `${text.slice(0, 300)}…` : text;
  };
  const { times, of } = difference;
  const often = times === undefined || of === undefined ? '' : ` (${times} of ${of} times)`;
  return `${difference.path}: expected ${shown(difference.expected)}, got ${shown(difference.actual)}${often}`;
}

function failureText(result: RequestResult): string {
  const lines = result.differences.map(differenceText);
  for (const hop of result.explanation?.hops ?? []) lines.push(`${hop.proxy}: ${hop.text}`);
  if (result.explanation?.note !== undefined) lines.push(result.explanation.note);
  for (const resource of result.explanation?.resources ?? []) lines.push(`see ${resource}`);
  return lines.join('\n');
}

export function junitReport(results: readonly TestResult[], engines: readonly EngineDifference[]): string {
  const sum = totals(results, engines);
  const suites = results.map((r) => {
    const failures = r.requests.filter((q) => !q.pass).length;
    const cases = r.requests.map((q) => {
      const head = `    <testcase classname="${xml(`${r.file} ${r.engine}`)}" name="${xml(q.name)}" time="${q.actual.ms / 1000}"`;
      if (q.pass) return `${head}/>`;
      const first = q.differences[0];
      const message = first ? differenceText(first) : 'failed';
      return `${head}>\n      <failure message="${xml(message)}">${xml(failureText(q))}</failure>\n    </testcase>`;
    });
    if (r.error !== undefined)
      cases.push(
        `    <testcase classname="${xml(`${r.file} ${r.engine}`)}" name="start of the mesh">\n      <error message="${xml(r.error)}"/>\n    </testcase>`,
      );
    const errors = r.error === undefined ? 0 : 1;
    return `  <testsuite name="${xml(`${r.name} (${r.engine})`)}" tests="${cases.length}" failures="${failures}" errors="${errors}" time="${r.ms / 1000}">\n${cases.join('\n')}\n  </testsuite>`;
  });
  const differing = engines.map(
    (d) =>
      `    <testcase classname="${xml(d.file)}" name="${xml(`${d.test}/${d.request}`)}">\n      <failure message="${xml(d.differences.map(differenceText).join('; '))}"/>\n    </testcase>`,
  );
  if (differing.length > 0)
    suites.push(
      `  <testsuite name="engines" tests="${differing.length}" failures="${differing.length}">\n${differing.join('\n')}\n  </testsuite>`,
    );
  return `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites tests="${sum.passed + sum.failed}" failures="${sum.failed}">\n${suites.join('\n')}\n</testsuites>\n`;
}

function xml(text: string): string {
  return (
    text
      // Characters XML has no way to write.
      .replace(/[^\t\n\r\x20-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, '?')
      .replaceAll('&', '&amp;')
      .replaceAll('<', '&lt;')
      .replaceAll('>', '&gt;')
      .replaceAll('"', '&quot;')
  );
}

export function tapReport(results: readonly TestResult[], engines: readonly EngineDifference[]): string {
  const lines: string[] = [];
  let count = 0;
  const line = (ok: boolean, name: string, details: string): void => {
    count += 1;
    lines.push(`${ok ? 'ok' : 'not ok'} ${count} - ${name.replaceAll('#', '\\#').replaceAll('\n', ' ')}`);
    if (details !== '')
      lines.push('  ---', ...['message: |', ...details.split('\n').map((d) => `  ${d}`)].map((d) => `  ${d}`), '  ...');
  };
  for (const r of results) {
    const of = `${r.file}: ${r.name} (${r.engine})`;
    if (r.error !== undefined) line(false, `${of} / start of the mesh`, r.error);
    for (const q of r.requests) line(q.pass, `${of} / ${q.name}`, q.pass ? '' : failureText(q));
  }
  for (const d of engines)
    line(false, `${d.file}: ${d.test} / ${d.request} (engines differ)`, d.differences.map(differenceText).join('\n'));
  return `TAP version 14\n1..${count}\n${lines.join('\n')}\n`;
}
