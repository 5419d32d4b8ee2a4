// With `--engine both`: what the two engines did on the same request, beside each other. Called by the test command and the suite. Pure.
import type { Difference } from './compare.ts';
import type { TestResult } from './run.ts';

export interface EngineDifference {
  readonly file: string;
  readonly test: string;
  readonly request: string;
  readonly line: number;
  /** `expected` is what the stock Envoy did, `actual` what the embedded engine did. */
  readonly differences: readonly Difference[];
}

export function compareEngines(results: readonly TestResult[]): readonly EngineDifference[] {
  const out: EngineDifference[] = [];
  for (const own of results.filter((r) => r.engine === 'meltemi')) {
    const stock = results.find((r) => r.engine === 'envoy' && r.file === own.file && r.name === own.name);
    for (const request of own.requests) {
      const other = stock?.requests.find((r) => r.index === request.index);
      // Of many requests the last is one by chance.
      if (!other || (own.test.requests[request.index]?.times ?? 1) > 1) continue;
      const differences: Difference[] = [];
      const add = (path: string, expected: unknown, actual: unknown): void => {
        if (expected !== actual)
          differences.push({ path: `engines.${path}`, expected: expected ?? null, actual: actual ?? null });
      };
      add('code', other.actual.code, request.actual.code);
      add('status', other.actual.status, request.actual.status);
      add('grpcStatus', other.actual.grpcStatus, request.actual.grpcStatus);
      add('upstream.method', other.actual.upstream?.method, request.actual.upstream?.method);
      add('upstream.path', other.actual.upstream?.path, request.actual.upstream?.path);
      add('upstream.protocol', other.actual.upstream?.protocol, request.actual.upstream?.protocol);
      if (differences.length > 0)
        out.push({ file: own.file, test: own.name, request: request.name, line: request.line, differences });
    }
  }
  return out;
}
