// Expectations against what came: a list of differences, each with the field of the file it is about. Called by run-request.ts. Pure.
import { isDeepStrictEqual } from 'node:util';
import { type Arrived, peerOf, RESPONDER } from './apps.ts';
import type { Expectation, TextMatch, UpstreamExpectation } from './format.ts';
import type { LogLine } from './mesh.ts';
import type { Outcome } from './outcome.ts';

export interface Difference {
  /** `expect.status`, `expect.upstream.headers.x-a`. */
  readonly path: string;
  readonly expected: unknown;
  readonly actual: unknown;
  /** Of a request that was sent several times: how many of them differed so. */
  readonly times?: number;
  readonly of?: number;
}

/** Answers that differ from each other are told apart up to this many; the rest is counted with the last. */
const MAX_KINDS = 3;

export interface Observed {
  readonly outcomes: readonly Outcome[];
  /** What reached applications while the request ran. */
  readonly arrived: readonly Arrived[];
  readonly logs: readonly LogLine[];
}

type Add = (path: string, expected: unknown, actual: unknown) => void;

export function compare(expect: Expectation, observed: Observed): readonly Difference[] {
  const out: Difference[] = [];
  const add: Add = (path, expected, actual) => {
    out.push({ path: `expect.${path}`, expected, actual });
  };
  out.push(...compareEach(expect, observed.outcomes));
  if (expect.sameResponder === true) {
    const all = [...new Set(observed.outcomes.map(responderOf))];
    if (all.length > 1) add('sameResponder', true, all);
  }
  if (expect.distribution) compareDistribution(expect.distribution, expect.tolerance, observed.outcomes, add);
  if (expect.mirrored) compareMirrors(expect.mirrored, observed, add);
  if (expect.upstream) compareUpstream(expect.upstream, observed, add);
  if (expect.responseFlag !== undefined) {
    const flags = observed.logs.map((l) => flagsOf(l.text));
    if (!flags.some((f) => f.includes(expect.responseFlag!)))
      add('responseFlag', expect.responseFlag, [...new Set(flags.flat())]);
  }
  if (expect.log) {
    const { log } = expect;
    const texts = observed.logs.map((l) => l.text);
    const holds =
      log.notContains === undefined ? texts.some((t) => matches(log, t)) : texts.every((t) => matches(log, t));
    if (!holds) add('log', log, texts);
  }
  return out;
}

/** Equal differences of several answers stand once, with how often they came. */
function compareEach(expect: Expectation, outcomes: readonly Outcome[]): readonly Difference[] {
  if (outcomes.length === 1) {
    const out: Difference[] = [];
    compareOne(expect, outcomes[0]!, (path, expected, actual) =>
      out.push({ path: `expect.${path}`, expected, actual }),
    );
    return out;
  }
  const byPath = new Map<string, { -readonly [K in keyof Difference]: Difference[K] }[]>();
  for (const outcome of outcomes)
    compareOne(expect, outcome, (path, expected, actual) => {
      const kinds = byPath.get(path) ?? [];
      byPath.set(path, kinds);
      const same =
        kinds.find((kind) => isDeepStrictEqual(kind.actual, actual)) ??
        (kinds.length < MAX_KINDS ? undefined : kinds.at(-1));
      if (same) same.times = (same.times ?? 0) + 1;
      else kinds.push({ path: `expect.${path}`, expected, actual, times: 1, of: outcomes.length });
    });
  return [...byPath.values()].flat();
}

function compareOne(expect: Expectation, outcome: Outcome, add: Add): void {
  const shown = outcome.code === 'ok' ? outcome.status : `${outcome.code} (${outcome.detail})`;
  if (expect.status !== undefined && outcome.status !== expect.status) add('status', expect.status, shown);
  if (expect.statusAnyOf && !expect.statusAnyOf.includes(outcome.status)) add('statusAnyOf', expect.statusAnyOf, shown);
  if (expect.grpcStatus !== undefined && outcome.grpcStatus !== expect.grpcStatus)
    add('grpcStatus', expect.grpcStatus, outcome.grpcStatus ?? shown);
  if (expect.code !== undefined && outcome.code !== expect.code) add('code', expect.code, shown);
  // `ok`: an answer came, and it is no error.
  const ok = outcome.code === 'ok' && outcome.status < 400;
  if (expect.ok !== undefined && ok !== expect.ok) add('ok', expect.ok, shown);
  if (expect.body && !matches(expect.body, outcome.body)) add('body', expect.body, outcome.body);
  for (const [name, wanted] of Object.entries(expect.headers ?? {})) {
    const value = headerOf(outcome.headers, name);
    if (value === undefined || !matches(wanted, value)) add(`headers.${name}`, wanted, value ?? null);
  }
  for (const name of expect.absentHeaders ?? []) {
    const value = headerOf(outcome.headers, name.toLowerCase());
    if (value !== undefined) add('absentHeaders', `no ${name}`, `${name}: ${value}`);
  }
  if (expect.responder !== undefined && responderOf(outcome) !== expect.responder)
    add('responder', expect.responder, responderOf(outcome) ?? shown);
  if (expect.minMs !== undefined && outcome.ms < expect.minMs) add('minMs', expect.minMs, outcome.ms);
  if (expect.maxMs !== undefined && outcome.ms > expect.maxMs) add('maxMs', expect.maxMs, outcome.ms);
}

export function responderOf(outcome: Outcome): string | undefined {
  return headerOf(outcome.headers, RESPONDER) ?? /^hello from (\S+)\n/.exec(outcome.body)?.[1];
}

function headerOf(headers: readonly (readonly [string, string])[], name: string): string | undefined {
  const values = headers.filter(([n]) => n === name).map(([, v]) => v);
  return values.length === 0 ? undefined : values.join(', ');
}

export function matches(wanted: TextMatch, text: string): boolean {
  if (wanted.equals !== undefined && text !== wanted.equals) return false;
  if (wanted.contains !== undefined && !text.includes(wanted.contains)) return false;
  if (wanted.notContains !== undefined && text.includes(wanted.notContains)) return false;
  return wanted.matches === undefined || new RegExp(wanted.matches, 's').test(text);
}

/** Shares in percent; `tolerance` in percentage points. */
function compareDistribution(
  wanted: Readonly<Record<string, number>>,
  tolerance: number,
  outcomes: readonly Outcome[],
  add: Add,
): void {
  const counts: Record<string, number> = {};
  for (const outcome of outcomes) {
    const name = responderOf(outcome) ?? 'nobody';
    counts[name] = (counts[name] ?? 0) + 1;
  }
  const shares = Object.fromEntries(
    Object.entries(counts).map(([name, n]) => [name, Math.round((n / outcomes.length) * 1000) / 10]),
  );
  const total = Object.values(wanted).reduce((a, b) => a + b, 0) || 1;
  const names = new Set([...Object.keys(wanted), ...Object.keys(shares)]);
  const far = (name: string): boolean =>
    Math.abs(((wanted[name] ?? 0) / total) * 100 - (shares[name] ?? 0)) > tolerance;
  if ([...names].some(far)) add('distribution', wanted, shares);
}

/** Copies are what reached a workload beyond the answers it gave. */
export function mirroredCounts(observed: Observed): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const arrived of observed.arrived) counts[arrived.workload] = (counts[arrived.workload] ?? 0) + 1;
  for (const outcome of observed.outcomes) {
    const name = responderOf(outcome);
    if (name !== undefined && counts[name] !== undefined) counts[name] -= 1;
  }
  return counts;
}

function compareMirrors(wanted: Readonly<Record<string, number>>, observed: Observed, add: Add): void {
  const counts = mirroredCounts(observed);
  if (Object.entries(wanted).some(([name, count]) => (counts[name] ?? 0) !== count)) add('mirrored', wanted, counts);
}

/** The request that led to the answer: the last that reached the responder, else the last at all. */
export function upstreamRequest(observed: Observed): Arrived | undefined {
  const responder = observed.outcomes.at(-1) && responderOf(observed.outcomes.at(-1)!);
  return observed.arrived.findLast((a) => a.workload === responder) ?? observed.arrived.at(-1);
}

function compareUpstream(wanted: UpstreamExpectation, observed: Observed, add: Add): void {
  if (wanted.requests !== undefined && observed.arrived.length !== wanted.requests)
    add('upstream.requests', wanted.requests, observed.arrived.length);
  const { requests: _, ...rest } = wanted;
  if (Object.keys(rest).length === 0) return;
  const got = upstreamRequest(observed);
  if (!got) {
    add('upstream', rest, 'no request reached an application');
    return;
  }
  for (const key of ['path', 'method', 'host', 'protocol'] as const)
    if (wanted[key] !== undefined && got[key] !== wanted[key]) add(`upstream.${key}`, wanted[key], got[key]);
  const peer = peerOf(got);
  if (wanted.peer !== undefined && peer !== wanted.peer) add('upstream.peer', wanted.peer, peer ?? null);
  if (wanted.mtls !== undefined && (peer !== undefined) !== wanted.mtls)
    add('upstream.mtls', wanted.mtls, peer !== undefined);
  if (wanted.body && !matches(wanted.body, got.body)) add('upstream.body', wanted.body, got.body);
  for (const [name, match] of Object.entries(wanted.headers ?? {})) {
    const value = headerOf(got.headers, name);
    if (value === undefined || !matches(match, value)) add(`upstream.headers.${name}`, match, value ?? null);
  }
  for (const name of wanted.absentHeaders ?? []) {
    const value = headerOf(got.headers, name.toLowerCase());
    if (value !== undefined) add('upstream.absentHeaders', `no ${name}`, `${name}: ${value}`);
  }
}

/** Response flags of a line in Istio's default text format. */
export function flagsOf(line: string): readonly string[] {
  return parseLogLine(line)?.flags ?? [];
}

export interface Hop {
  readonly status: string;
  readonly flags: readonly string[];
  readonly details: string;
  readonly termination: string;
  readonly failure: string;
  readonly upstream: string;
  readonly cluster: string;
  readonly sni: string;
  readonly route: string;
  /** `-` for bytes and refused connections. */
  readonly requestId: string;
}

const LINE =
  /^\[[^\]]*\] "(?:[^"]*)" (\S+) (\S+) (\S+) (\S+) "([^"]*)" \S+ \S+ \S+ \S+ "[^"]*" "[^"]*" "([^"]*)" "[^"]*" "([^"]*)" (\S+) \S+ \S+ \S+ (\S+) (\S+)/;

/** Undefined for a line of another format. */
export function parseLogLine(line: string): Hop | undefined {
  const found = LINE.exec(line);
  if (!found) return undefined;
  const [
    ,
    status = '',
    flags = '',
    details = '',
    termination = '',
    failure = '',
    requestId = '',
    upstream = '',
    cluster = '',
    sni = '',
    route = '',
  ] = found;
  return {
    status,
    flags: flags === '-' ? [] : flags.split(','),
    details,
    termination,
    failure,
    upstream,
    cluster,
    sni,
    route,
    requestId,
  };
}
