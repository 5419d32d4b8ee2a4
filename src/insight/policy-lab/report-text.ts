// Results as a person reads them: only what failed is told at length. Pure.
import type { EngineDifference } from './engines-compare.ts';
import type { FileProblem } from './format.ts';
import { differenceText, totals } from './report.ts';
import type { TestResult } from './run.ts';
import type { RequestResult } from './run-request.ts';

export interface Paint {
  red(text: string): string;
  green(text: string): string;
  dim(text: string): string;
  bold(text: string): string;
}

export function problemText(problem: FileProblem, paint: Paint): string {
  return `${paint.bold(`${problem.file}:${problem.line}:${problem.column}`)}: ${problem.message} ${paint.dim(`[${problem.code}]`)}\n`;
}

export function testText(result: TestResult, paint: Paint, showEngine: boolean): string {
  const failed = result.requests.filter((r) => !r.pass);
  const good = failed.length === 0 && result.error === undefined;
  const title = `${result.name}${showEngine ? ` (${result.engine})` : ''}`;
  const count = `${result.requests.length} request${result.requests.length === 1 ? '' : 's'}`;
  const head = `${good ? paint.green('✔') : paint.red('✘')} ${result.file}: ${title} ${paint.dim(`${count}, ${result.ms} ms`)}\n`;
  if (result.error !== undefined) return `${head}  ${paint.red('the mesh did not start')}: ${result.error}\n`;
  return head + failed.map((r) => requestText(result, r, paint)).join('');
}

function requestText(result: TestResult, request: RequestResult, paint: Paint): string {
  const { test } = result;
  const asked = test.requests[request.index]!;
  const target = `${asked.scheme}://${asked.host}:${asked.port}${asked.path}`;
  const what = asked.scheme === 'tcp' || asked.scheme === 'tls' ? target : `${asked.method} ${target}`;
  const lines = [
    `  ${paint.red('✘')} ${request.name} ${paint.dim(`(line ${request.line})`)}: ${what} from ${asked.from}`,
  ];
  for (const difference of request.differences) {
    const line = test.lineOf(`spec.requests[${request.index}].${difference.path}`);
    lines.push(`      line ${line}: ${differenceText(difference)}`);
  }
  const { actual } = request;
  const came =
    actual.code === 'ok'
      ? `${actual.status ?? ''} ${actual.grpcStatus ?? ''}`.trim()
      : `${actual.code} (${actual.detail})`;
  const body = actual.body === undefined || actual.body.startsWith('{') ? '' : ` ${JSON.stringify(actual.body)}`;
  const answers = Object.entries(actual.answers ?? {});
  if (answers.length > 1)
    lines.push(`      answers: ${answers.map(([name, count]) => `${count} × ${name}`).join(', ')}`);
  lines.push(
    `      ${actual.answers ? 'last came' : 'came'}: ${came || 'bytes'}${body}${actual.responder ? ` from ${actual.responder}` : ''}, ${actual.ms} ms`,
  );
  for (const hop of request.explanation?.hops ?? []) lines.push(paint.dim(`      ${hop.proxy}: ${hop.text}`));
  const note = request.explanation?.note;
  if (note !== undefined) lines.push(`      ${note}`);
  for (const resource of request.explanation?.resources ?? []) lines.push(paint.dim(`      see ${resource}`));
  return `${lines.join('\n')}\n`;
}

export function engineText(difference: EngineDifference, paint: Paint): string {
  const lines = difference.differences.map(
    (d) =>
      `      ${d.path.replace('engines.', '')}: envoy ${JSON.stringify(d.expected)}, meltemi ${JSON.stringify(d.actual)}`,
  );
  return `${paint.red('✘')} ${difference.file}:${difference.line}: ${difference.test}/${difference.request}: the engines differ\n${lines.join('\n')}\n`;
}

export function summaryText(
  results: readonly TestResult[],
  engines: readonly EngineDifference[],
  ms: number,
  paint: Paint,
): string {
  const { passed, failed } = totals(results, engines);
  const tail = `in ${results.length} test${results.length === 1 ? '' : 's'}, ${(ms / 1000).toFixed(1)} s`;
  return failed === 0
    ? `${paint.green(`${passed} passed`)} ${tail}\n`
    : `${paint.red(`${failed} failed`)}, ${passed} passed ${tail}\n`;
}
