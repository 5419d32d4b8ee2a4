// The format of a case: what a YAML file under cases/ (or a TypeScript case) may say. Reads files, refuses unknown keys by
// file and line. README.md explains each key by example. Called by the runner, the tests and the list of differences.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml';
import type { LiveCase } from './live.ts';

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
export type JsonMap = { readonly [key: string]: Json };
export type EngineName = 'meltemi' | 'envoy';

/** What a value must be: exactly this, absent (null), or one of the forms below; `{meltemi, envoy}` says it per engine. */
export type Matcher =
  | null
  | string
  | number
  | boolean
  | readonly string[]
  | { readonly contains: string | readonly string[] }
  | { readonly absent: string | readonly string[] }
  | { readonly matches: string }
  | { readonly meltemi: Matcher; readonly envoy: Matcher };

/** Bytes: text (one character, one byte), hexadecimal, or a piece repeated. */
export type Bytes = string | { readonly hex: string } | { readonly repeat: string; readonly times: number };

/** A piece of a conversation: bytes to send, or something to wait for. */
export type Piece =
  | Bytes
  | { readonly await: string }
  | { readonly await_upstream: string; readonly contains?: string }
  | { readonly wait_ms: number };

export type HeaderText = string | { readonly repeat: string; readonly times: number };
export type HeaderList =
  | { readonly [name: string]: HeaderText | readonly HeaderText[] }
  | readonly (readonly [string, HeaderText])[];

export interface TlsOptions {
  readonly sni?: string;
  readonly alpn?: readonly string[];
  /** Name of the client's certificate (certificates.ts). */
  readonly cert?: string;
  /** CA to check the server with; without it nothing is checked. */
  readonly ca?: string;
  readonly min?: string;
  readonly max?: string;
  readonly ciphers?: string;
  /** Offer the session of the named earlier step's connection. */
  readonly session?: string;
}

export interface ResponseExpectation {
  readonly status?: Matcher;
  readonly start?: Matcher;
  readonly headers?: { readonly [name: string]: Matcher };
  readonly trailers?: { readonly [name: string]: Matcher };
  readonly body?: Matcher;
  readonly framing?: Matcher;
  readonly informational?: Matcher;
  readonly tunnel?: Matcher;
  /** h2: the code of RST_STREAM or GOAWAY. */
  readonly reset?: Matcher;
  /** How the connection ended: closed, reset, open. */
  readonly end?: Matcher;
  /** Everything that was received, as text. */
  readonly raw?: Matcher;
  readonly error?: Matcher;
  readonly tls?: { readonly [what: string]: Matcher };
}

export interface Step {
  readonly request?: string;
  readonly host?: string | null;
  readonly scheme?: string;
  readonly headers?: HeaderList;
  readonly body?: Bytes;
  readonly chunked?: boolean;
  readonly trailers?: HeaderList;
  readonly version?: string;
  readonly send?: Piece | readonly Piece[];
  readonly responses?: number;
  readonly until?: 'close' | { readonly text: string };
  readonly half_close?: boolean;
  readonly show_raw?: boolean;
  readonly order?: boolean;
  readonly over?: 'h1' | 'h2';
  readonly tls?: TlsOptions | true;
  readonly on?: string;
  readonly listener?: string;
  readonly times?: number;
  readonly parallel?: number;
  readonly admin?: string;
  readonly wait?: { readonly stat: string; readonly is?: number; readonly min?: number };
  readonly wait_ms?: number;
  readonly close?: string;
  readonly timeout_ms?: number;
  readonly expect?: ResponseExpectation | readonly ResponseExpectation[];
}

export interface Reply {
  /** Answers only requests with this path. */
  readonly path?: string;
  readonly status?: number;
  readonly headers?: HeaderList;
  readonly body?: Bytes;
  readonly trailers?: HeaderList;
  readonly chunked?: boolean;
  /** The body ends with the connection. */
  readonly until_close?: boolean;
  readonly raw?: Piece | readonly Piece[];
  readonly delay_ms?: number;
  readonly close?: boolean;
  readonly reset?: boolean | number;
  readonly hang?: boolean;
  /** Answer when the head is there, without waiting for the body. */
  readonly early?: boolean;
  /** After the head (101, or 200 to CONNECT) bytes are echoed. */
  readonly tunnel?: boolean;
}

export interface UpstreamSpec {
  readonly respond?: Reply | readonly Reply[];
  readonly tls?: {
    readonly cert?: string;
    readonly ca?: string;
    readonly alpn?: readonly string[];
    readonly max?: string;
  };
  /** No HTTP: `echo`, or what to say. */
  readonly tcp?:
    | 'echo'
    | 'hang'
    | {
        readonly on_connect?: Bytes;
        readonly on_data?: Bytes;
        readonly close?: boolean;
        readonly reset?: boolean;
        readonly on_end?: Bytes;
      };
  /** Read nothing until the proxy had `ms` to fill buffers. */
  readonly pause_ms?: number;
}

export interface UpstreamExpectation {
  readonly request?: Matcher;
  readonly headers?: { readonly [name: string]: Matcher };
  readonly trailers?: { readonly [name: string]: Matcher };
  readonly body?: Matcher;
  readonly framing?: Matcher;
  readonly bytes?: Matcher;
  readonly tls?: { readonly [what: string]: Matcher };
}

export interface CaseConfig {
  readonly hcm?: JsonMap;
  readonly routes?: readonly Json[];
  /** Fields of the default route's action, when `routes` is not given. */
  readonly route?: JsonMap;
  readonly virtual_host?: JsonMap;
  readonly virtual_hosts?: readonly Json[];
  readonly route_config?: JsonMap;
  readonly http_filters?: readonly Json[];
  readonly tcp_proxy?: JsonMap;
  readonly filters?: readonly Json[];
  readonly listener_filters?: readonly Json[];
  readonly chain?: JsonMap;
  readonly chains?: readonly Json[];
  readonly tls?: JsonMap;
  readonly listener?: JsonMap;
  readonly listeners?: { readonly [name: string]: CaseConfig };
  readonly clusters?: { readonly [name: string]: JsonMap };
  readonly secrets?: readonly Json[];
  readonly bootstrap?: JsonMap;
}

export interface Difference {
  readonly reason: string;
  /** Observation keys, `*` stands for any text. */
  readonly in: readonly string[];
}

export interface Case {
  readonly name: string;
  readonly config?: CaseConfig;
  readonly log_format?: Json;
  readonly upstreams?: { readonly [name: string]: UpstreamSpec };
  readonly steps?: readonly Step[];
  /** What arrived: each request, or how many. */
  readonly upstream?: {
    readonly [name: string]:
      | readonly UpstreamExpectation[]
      | number
      | { readonly meltemi: number; readonly envoy: number };
  };
  readonly log?: readonly Matcher[];
  readonly log_lines?: number;
  readonly stats?: { readonly [name: string]: Matcher };
  /** The configuration is refused, and the reason says this (regular expression), by both engines. */
  readonly refused?: Matcher;
  readonly command?: readonly string[];
  readonly exit?: number;
  readonly stdout?: Matcher;
  readonly stderr?: Matcher;
  readonly files?: { readonly [name: string]: Json };
  readonly own_process?: boolean;
  readonly args?: readonly string[];
  readonly serial?: boolean;
  /** Observation keys that chance decides: not compared between the engines. */
  readonly random?: readonly string[];
  readonly differs?: Difference | readonly Difference[];
  /** Who mends what: our engine fails this case today. It runs, is counted apart, and says when it passes. */
  readonly pending?: string;
  /** TypeScript form: does what data cannot say, and returns what it saw. */
  readonly live?: LiveCase;
}

export interface LoadedCase extends Case {
  /** `cases/x.yaml:12`. */
  readonly where: string;
}

export interface CaseFile {
  readonly file: string;
  readonly topic: string;
  readonly cases: readonly LoadedCase[];
}

const KEYS: Readonly<Record<string, readonly string[]>> = {
  file: ['about', 'defaults', 'cases'],
  case: [
    ...[
      'name',
      'config',
      'log_format',
      'upstreams',
      'steps',
      'upstream',
      'log',
      'log_lines',
      'stats',
      'refused',
      'command',
    ],
    ...['exit', 'stdout', 'stderr', 'files', 'own_process', 'args', 'serial', 'random', 'differs', 'pending'],
  ],
  config: [
    ...[
      'hcm',
      'routes',
      'route',
      'virtual_host',
      'virtual_hosts',
      'route_config',
      'http_filters',
      'tcp_proxy',
      'filters',
    ],
    ...['listener_filters', 'chain', 'chains', 'tls', 'listener', 'listeners', 'clusters', 'secrets', 'bootstrap'],
  ],
  step: [
    ...['request', 'host', 'scheme', 'headers', 'body', 'chunked', 'trailers', 'version', 'send', 'responses', 'until'],
    ...[
      'half_close',
      'show_raw',
      'order',
      'over',
      'tls',
      'on',
      'listener',
      'times',
      'parallel',
      'admin',
      'wait',
      'wait_ms',
    ],
    ...['close', 'timeout_ms', 'expect'],
  ],
  expect: [
    ...['status', 'start', 'headers', 'trailers', 'body', 'framing', 'informational', 'tunnel', 'reset', 'end', 'raw'],
    ...['error', 'tls'],
  ],
  upstream: ['respond', 'tls', 'tcp', 'pause_ms'],
  reply: [
    ...['path', 'status', 'headers', 'body', 'trailers', 'chunked', 'until_close', 'raw', 'delay_ms', 'close', 'reset'],
    ...['hang', 'early', 'tunnel'],
  ],
  seen: ['request', 'headers', 'trailers', 'body', 'framing', 'bytes', 'tls'],
  differs: ['reason', 'in'],
};

/** Reads one file of cases. Throws with file and line for what is not in the format. */
export function loadCases(file: string): CaseFile {
  const lines = new LineCounter();
  const document = parseDocument(readFileSync(file, 'utf8'), { lineCounter: lines, merge: true });
  const short = `cases/${path.basename(file)}`;
  const place = (node: unknown): string =>
    `${short}:${lines.linePos((node as Node | undefined)?.range?.[0] ?? 0).line}`;
  const problem = document.errors[0];
  if (problem) throw new Error(`${short}:${lines.linePos(problem.pos[0]).line}: ${problem.message}`);
  const check = (kind: string, given: unknown): void => {
    const node = isAlias(given) ? given.resolve(document) : given;
    if (!isMap(node)) throw new Error(`${place(node)}: a ${kind} must be a mapping`);
    for (const item of node.items) {
      const key = isScalar(item.key) ? String(item.key.value) : '';
      if (key !== '<<' && !KEYS[kind]?.includes(key))
        throw new Error(`${place(item.key)}: "${key}" is not a key of a ${kind}; known: ${KEYS[kind]?.join(', ')}`);
    }
  };
  const each = (node: unknown, visit: (item: unknown) => void): void => {
    if (isSeq(node)) for (const item of node.items) visit(item);
    else if (node !== undefined && node !== null) visit(node);
  };
  const values = (node: unknown): readonly unknown[] => (isMap(node) ? node.items.map((item) => item.value) : []);
  check('file', document.contents);
  const root = document.contents;
  const list = isMap(root) ? root.get('cases', true) : undefined;
  if (!isSeq(list)) throw new Error(`${short}: "cases" must be a list`);
  const data = document.toJS() as { defaults?: Case; cases: readonly Case[] };
  const names = new Set<string>();
  const cases = list.items.map((node, i) => {
    check('case', node);
    const get = (key: string): unknown => (isMap(node) ? node.get(key, true) : undefined);
    if (get('config')) check('config', get('config'));
    each(get('steps'), (step) => {
      check('step', step);
      if (isMap(step)) each(step.get('expect', true), (expect) => check('expect', expect));
    });
    for (const upstream of values(get('upstreams'))) {
      check('upstream', upstream);
      if (isMap(upstream)) each(upstream.get('respond', true), (reply) => check('reply', reply));
    }
    for (const seen of values(get('upstream'))) if (isSeq(seen)) each(seen, (item) => check('seen', item));
    each(get('differs'), (difference) => check('differs', difference));
    const one = data.cases[i]!;
    if (typeof one.name !== 'string') throw new Error(`${place(node)}: a case needs a name`);
    if (names.has(one.name)) throw new Error(`${place(node)}: there are two cases "${one.name}"`);
    names.add(one.name);
    if (!one.steps && one.refused === undefined && !one.command)
      throw new Error(`${place(node)}: a case needs steps, refused or command`);
    const config = merge(data.defaults?.config ?? {}, one.config ?? {}) as CaseConfig;
    return { ...data.defaults, ...one, config, where: place(node) };
  });
  return { file: short, topic: path.basename(file, '.yaml'), cases };
}

/** Maps merge, everything else replaces; null removes. */
export function merge(base: unknown, over: unknown): unknown {
  if (!isObject(base) || !isObject(over)) return over;
  const out: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(over)) {
    if (value === null) delete out[key];
    else out[key] = key in out ? merge(out[key], value) : value;
  }
  return out;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function list<T>(value: T | readonly T[] | undefined): readonly T[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? (value as readonly T[]) : [value as T];
}

export function bytesOf(bytes: Bytes): Buffer {
  if (typeof bytes === 'string') return Buffer.from(bytes, 'latin1');
  if ('hex' in bytes) return Buffer.from(bytes.hex.replaceAll(/[^0-9a-fA-F]/g, ''), 'hex');
  return Buffer.from(bytes.repeat.repeat(bytes.times), 'latin1');
}

export function pairsOf(headers: HeaderList | undefined): readonly (readonly [string, string])[] {
  if (!headers) return [];
  const text = (value: HeaderText): string =>
    typeof value === 'object' ? value.repeat.repeat(value.times) : String(value);
  if (Array.isArray(headers))
    return (headers as readonly (readonly [string, HeaderText])[]).map(([name, value]) => [name, text(value)] as const);
  return Object.entries(headers as { readonly [name: string]: HeaderText | readonly HeaderText[] }).flatMap(
    ([name, value]) => list(value).map((one) => [name, text(one)] as const),
  );
}
