// Requests of a MeshTest and what they expect. Called by read.ts.
import {
  duration,
  flag,
  integer,
  list,
  oneOf,
  type RawObject,
  type Reader,
  report,
  text,
  textMap,
  texts,
} from '../../api/istio/reader.ts';
import { GRPC_CODES } from '../../base/grpc-codes.ts';
import { fieldsOf } from './fields.ts';
import {
  CODES,
  type Expectation,
  SCHEMES,
  type Scheme,
  type ScriptedAnswer,
  type TestRequest,
  type TextMatch,
  type UpstreamExpectation,
} from './format.ts';
import { DEFAULT_TIMEOUT_MS, MAX_CONCURRENCY, MAX_TIMEOUT_MS, MAX_TIMES } from './limits.ts';

const LATER_REQUEST = {
  token: 'tokens come with RequestAuthentication',
  jwt: 'tokens come with RequestAuthentication',
};
const LATER_EXPECT = {
  decision: 'decisions come with AuthorizationPolicy',
  policy: 'decisions come with AuthorizationPolicy',
  rule: 'decisions come with AuthorizationPolicy',
};

const REQUEST_FIELDS = [
  'name',
  'from',
  'to',
  'rawPath',
  'method',
  'headers',
  'body',
  'times',
  'concurrency',
  'followRedirects',
  'sni',
  'alpn',
  'http2',
  'clientCert',
  'insecureSkipVerify',
  'resolveTo',
  'send',
  'timeout',
  'serverFirst',
  'upstreamScript',
  'expect',
] as const;

const DEFAULT_PORT: Readonly<Record<Scheme, number>> = {
  http: 80,
  https: 443,
  h2c: 80,
  grpc: 80,
  ws: 80,
  tcp: 0,
  tls: 443,
};

export function readRequest(reader: Reader, value: unknown, path: string, index: number, line: number): TestRequest {
  const raw = fieldsOf(reader, value, path, REQUEST_FIELDS, LATER_REQUEST) ?? {};
  const target = readTarget(reader, raw, path);
  const script = list(reader, raw.upstreamScript, `${path}.upstreamScript`);
  const alpn = raw.alpn === undefined ? undefined : texts(reader, raw.alpn, `${path}.alpn`);
  const optional = (key: 'sni' | 'clientCert' | 'resolveTo' | 'send') => {
    const found = text(reader, raw[key], `${path}.${key}`);
    return found === undefined ? {} : { [key]: found };
  };
  if (raw.expect === undefined)
    report(
      reader,
      path,
      'required',
      `${path}.expect is missing: say what should come, for instance expect: {status: 200}`,
    );
  return {
    // A name such as 404 is a number to YAML.
    name:
      typeof raw.name === 'number'
        ? String(raw.name)
        : (text(reader, raw.name, `${path}.name`) ?? `request ${index + 1}`),
    line,
    from: text(reader, raw.from, `${path}.from`) ?? '',
    ...target,
    method: text(reader, raw.method, `${path}.method`) ?? (target.scheme === 'grpc' ? 'POST' : 'GET'),
    headers: readHeaders(reader, raw.headers, `${path}.headers`),
    body: text(reader, raw.body, `${path}.body`) ?? '',
    times: integer(reader, raw.times, `${path}.times`, 1, MAX_TIMES) ?? 1,
    concurrency: integer(reader, raw.concurrency, `${path}.concurrency`, 1, MAX_CONCURRENCY) ?? 1,
    followRedirects: flag(reader, raw.followRedirects, `${path}.followRedirects`) ?? false,
    ...(alpn ? { alpn } : {}),
    ...optional('sni'),
    ...optional('clientCert'),
    ...optional('resolveTo'),
    ...optional('send'),
    http2: flag(reader, raw.http2, `${path}.http2`) ?? false,
    insecureSkipVerify: flag(reader, raw.insecureSkipVerify, `${path}.insecureSkipVerify`) ?? false,
    timeoutMs: readMs(reader, raw.timeout, `${path}.timeout`) ?? DEFAULT_TIMEOUT_MS,
    serverFirst: flag(reader, raw.serverFirst, `${path}.serverFirst`) ?? false,
    upstreamScript: script.map((entry, i) => readAnswer(reader, entry, `${path}.upstreamScript[${i}]`)),
    expect: readExpect(reader, raw.expect, `${path}.expect`),
  };
}

function readMs(reader: Reader, value: unknown, path: string): number | undefined {
  const ms = duration(reader, value, path);
  if (ms !== undefined && (ms <= 0 || ms > MAX_TIMEOUT_MS))
    report(reader, path, 'out-of-range', `${path} must be more than 0 and at most ${MAX_TIMEOUT_MS / 1000}s`);
  return ms;
}

const TARGET = /^([a-z0-9]+):\/\/(\[[^\]]+\]|[^/:?#]+)(?::(\d+))?([/?].*)?$/s;

function readTarget(
  reader: Reader,
  raw: RawObject,
  path: string,
): Pick<TestRequest, 'scheme' | 'host' | 'port' | 'path'> {
  const to = text(reader, raw.to, `${path}.to`);
  const none = { scheme: 'http' as const, host: '', port: 0, path: '/' };
  if (text(reader, raw.from, `${path}.from`) === undefined)
    report(reader, path, 'required', `${path}.from is missing: a workload as namespace/name, or external`);
  if (to === undefined) {
    report(reader, path, 'required', `${path}.to is missing: for instance to: http://httpbin.foo:8000/headers`);
    return none;
  }
  const found = TARGET.exec(to);
  const scheme = SCHEMES.find((s) => s === found?.[1]);
  if (!found || !scheme) {
    report(
      reader,
      `${path}.to`,
      'target',
      `${path}.to: "${to}" is not SCHEME://HOST[:PORT][/PATH] with a scheme of ${SCHEMES.join(', ')}`,
    );
    return none;
  }
  const port = found[3] === undefined ? DEFAULT_PORT[scheme] : Number(found[3]);
  if (port < 1 || port > 65535)
    report(reader, `${path}.to`, 'port', `${path}.to: "${to}" needs a port from 1 to 65535`);
  const rawPath = text(reader, raw.rawPath, `${path}.rawPath`);
  const given = found[4] ?? '';
  const whole = rawPath === undefined ? given || '/' : `${given.replace(/\/$/, '')}${rawPath}`;
  const pathOnWire = whole.startsWith('?') ? `/${whole}` : whole;
  return { scheme, host: (found[2] ?? '').replace(/^\[|\]$/g, ''), port, path: pathOnWire };
}

function readHeaders(reader: Reader, value: unknown, path: string): readonly (readonly [string, string])[] {
  if (value === undefined || value === null) return [];
  if (typeof value !== 'object' || Array.isArray(value)) {
    report(reader, path, 'wrong-type', `${path} must be a map of names to a value or a list of values`);
    return [];
  }
  const out: (readonly [string, string])[] = [];
  for (const [name, entry] of Object.entries(value)) {
    const values = Array.isArray(entry) ? entry : [entry];
    for (const one of values) {
      if (typeof one === 'string' || typeof one === 'number') out.push([name, String(one)]);
      else report(reader, `${path}[${name}]`, 'wrong-type', `${path}.${name} must be a text or a list of texts`);
    }
  }
  return out;
}

function readAnswer(reader: Reader, value: unknown, path: string): ScriptedAnswer {
  const raw = fieldsOf(reader, value, path, ['status', 'headers', 'body', 'delay', 'close']) ?? {};
  const close = raw.close;
  if (close !== undefined && close !== 'reset' && close !== 'fin')
    report(reader, `${path}.close`, 'unknown-value', `${path}.close must be reset or fin`);
  return {
    status: integer(reader, raw.status, `${path}.status`, 100, 999) ?? 200,
    headers: textMap(reader, raw.headers, `${path}.headers`) ?? {},
    body: text(reader, raw.body, `${path}.body`) ?? '',
    delayMs: readMs(reader, raw.delay, `${path}.delay`) ?? 0,
    ...(close === 'reset' || close === 'fin' ? { close } : {}),
  };
}

const EXPECT_FIELDS = [
  'status',
  'statusAnyOf',
  'grpcStatus',
  'ok',
  'code',
  'body',
  'headers',
  'absentHeaders',
  'responder',
  'sameResponder',
  'upstream',
  'mirrored',
  'responseFlag',
  'log',
  'distribution',
  'tolerance',
  'minMs',
  'maxMs',
];

function readExpect(reader: Reader, value: unknown, path: string): Expectation {
  const raw = fieldsOf(reader, value, path, EXPECT_FIELDS, LATER_EXPECT) ?? {};
  if (typeof value === 'object' && Object.keys(raw).length === 0)
    report(reader, path, 'empty', `${path} must name at least one thing to expect`);
  const number = (key: string, min: number, max: number) => {
    const found = integer(reader, raw[key], `${path}.${key}`, min, max);
    return found === undefined ? {} : { [key]: found };
  };
  const code = oneOf(reader, raw.code, `${path}.code`, CODES);
  const grpcStatus = oneOf(reader, grpcCode(raw.grpcStatus), `${path}.grpcStatus`, GRPC_CODES);
  if (Array.isArray(raw.status))
    report(reader, `${path}.status`, 'wrong-type', `${path}.status is one number; for several write statusAnyOf`);
  const anyOf = list(reader, raw.statusAnyOf, `${path}.statusAnyOf`);
  const statuses = anyOf.map((s, i) => integer(reader, s, `${path}.statusAnyOf[${i}]`, 100, 999) ?? 0);
  const ok = flag(reader, raw.ok, `${path}.ok`);
  const same = flag(reader, raw.sameResponder, `${path}.sameResponder`);
  const word = (key: string) => {
    const found = text(reader, raw[key], `${path}.${key}`);
    return found === undefined ? {} : { [key]: found };
  };
  return {
    ...(Array.isArray(raw.status) ? {} : number('status', 100, 999)),
    ...(statuses.length > 0 ? { statusAnyOf: statuses } : {}),
    ...(grpcStatus === undefined ? {} : { grpcStatus }),
    ...(ok === undefined ? {} : { ok }),
    ...(code ? { code } : {}),
    ...readMatch(reader, raw, 'body', path),
    ...readMatches(reader, raw, 'headers', path),
    ...readNames(reader, raw, path),
    ...word('responder'),
    ...(same === undefined ? {} : { sameResponder: same }),
    ...readUpstream(reader, raw.upstream, `${path}.upstream`),
    ...readCounts(reader, raw, 'mirrored', path),
    ...word('responseFlag'),
    ...readMatch(reader, raw, 'log', path),
    ...readCounts(reader, raw, 'distribution', path),
    tolerance: integer(reader, raw.tolerance, `${path}.tolerance`, 0, 100) ?? 5,
    ...number('minMs', 0, MAX_TIMEOUT_MS),
    ...number('maxMs', 0, MAX_TIMEOUT_MS),
  };
}

/** `UNAVAILABLE`, `unavailable` or 14. */
function grpcCode(value: unknown): unknown {
  if (typeof value === 'number') return GRPC_CODES[value] ?? value;
  return typeof value === 'string' ? value.toUpperCase() : value;
}

function readUpstream(reader: Reader, value: unknown, path: string): { upstream?: UpstreamExpectation } {
  const known = ['headers', 'absentHeaders', 'path', 'method', 'host', 'protocol', 'mtls', 'peer', 'body', 'requests'];
  const raw = fieldsOf(reader, value, path, known);
  if (!raw) return {};
  const mtls = flag(reader, raw.mtls, `${path}.mtls`);
  const requests = integer(reader, raw.requests, `${path}.requests`, 0, MAX_TIMES);
  const words: Record<string, string> = {};
  for (const key of ['path', 'method', 'host', 'protocol', 'peer']) {
    const found = text(reader, raw[key], `${path}.${key}`);
    if (found !== undefined) words[key] = found;
  }
  return {
    upstream: {
      ...readMatches(reader, raw, 'headers', path),
      ...readNames(reader, raw, path),
      ...words,
      ...(mtls === undefined ? {} : { mtls }),
      ...readMatch(reader, raw, 'body', path),
      ...(requests === undefined ? {} : { requests }),
    },
  };
}

function readNames(reader: Reader, raw: RawObject, path: string): { absentHeaders?: readonly string[] } {
  if (raw.absentHeaders === undefined) return {};
  return { absentHeaders: texts(reader, raw.absentHeaders, `${path}.absentHeaders`) };
}

/** A text alone means that it must be equal. */
function matchOf(reader: Reader, value: unknown, path: string): TextMatch {
  if (typeof value === 'string' || typeof value === 'number') return { equals: String(value) };
  const raw = fieldsOf(reader, value, path, ['equals', 'contains', 'notContains', 'matches']) ?? {};
  const out: Record<string, string> = {};
  for (const [key, entry] of Object.entries(raw)) {
    const found = text(reader, entry, `${path}.${key}`);
    if (found !== undefined) out[key] = found;
  }
  if (out.matches !== undefined) {
    try {
      new RegExp(out.matches, 's');
    } catch (error) {
      report(reader, `${path}.matches`, 'regex', `${path}.matches: ${error instanceof Error ? error.message : error}`);
    }
  }
  return out;
}

function readMatch<K extends string>(
  reader: Reader,
  raw: RawObject,
  key: K,
  path: string,
): Partial<Record<K, TextMatch>> {
  if (raw[key] === undefined || raw[key] === null) return {};
  return { [key]: matchOf(reader, raw[key], `${path}.${key}`) } as Partial<Record<K, TextMatch>>;
}

function readMatches(
  reader: Reader,
  raw: RawObject,
  key: 'headers',
  path: string,
): { headers?: Readonly<Record<string, TextMatch>> } {
  const value = raw[key];
  if (value === undefined || value === null) return {};
  if (typeof value !== 'object' || Array.isArray(value)) {
    report(reader, `${path}.${key}`, 'wrong-type', `${path}.${key} must be a map of header names to texts`);
    return {};
  }
  const out: Record<string, TextMatch> = {};
  for (const [name, entry] of Object.entries(value))
    out[name.toLowerCase()] = matchOf(reader, entry, `${path}.${key}[${name}]`);
  return { [key]: out };
}

function readCounts<K extends string>(
  reader: Reader,
  raw: RawObject,
  key: K,
  path: string,
): Partial<Record<K, Readonly<Record<string, number>>>> {
  const value = raw[key];
  if (value === undefined || value === null) return {};
  if (typeof value !== 'object' || Array.isArray(value)) {
    report(reader, `${path}.${key}`, 'wrong-type', `${path}.${key} must be a map of namespace/workload to a number`);
    return {};
  }
  const out: Record<string, number> = {};
  for (const [name, entry] of Object.entries(value)) {
    const found = integer(reader, entry, `${path}.${key}[${name}]`, 0, MAX_TIMES);
    if (found !== undefined) out[name] = found;
  }
  return { [key]: out } as Partial<Record<K, Readonly<Record<string, number>>>>;
}
