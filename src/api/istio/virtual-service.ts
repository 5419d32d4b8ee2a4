// VirtualService (networking.istio.io): decoding and validation of the http section (traffic.md §4).
// Used by config/ and the validation webhook. delegate is refused by name.
import { GRPC_CODES } from '../../base/grpc-codes.ts';
import type { Parsed } from '../../base/runtime/diagnostics.ts';
import { readExportTo } from './destination-rule.ts';
import {
  host as checkHost,
  createReader,
  duration,
  finish,
  flag,
  integer,
  list,
  object,
  oneOf,
  type RawObject,
  type Reader,
  report,
  text,
  texts,
} from './reader.ts';
import { type Destination, type Headers, readDestinations, readHeaders } from './virtual-service-destination.ts';
import { type L4Route, readTcpRoutes, readTlsRoutes } from './virtual-service-l4.ts';

export type { Destination, HeaderOps, Headers } from './virtual-service-destination.ts';

import { checkRegex, type HttpMatch, readMatch, readStringMatch, type StringMatch } from './virtual-service-match.ts';
import { type Retries, readRetries } from './virtual-service-retries.ts';

export type { L4Match, L4Route } from './virtual-service-l4.ts';
export type { HttpMatch, StringMatch } from './virtual-service-match.ts';
export type { Retries } from './virtual-service-retries.ts';

export interface Redirect {
  readonly uri?: string;
  readonly authority?: string;
  readonly scheme?: string;
  readonly port?: number;
  /** Instead of the URI only the matched prefix is replaced. */
  readonly prefix?: string;
  readonly derivePort?: 'FROM_PROTOCOL_DEFAULT' | 'FROM_REQUEST_PORT';
  readonly code: number;
}

export interface Mirror {
  readonly destination: Destination;
  readonly percent: number;
}

export interface Cors {
  readonly allowOrigins: readonly StringMatch[];
  readonly allowMethods: readonly string[];
  readonly allowHeaders: readonly string[];
  readonly exposeHeaders: readonly string[];
  readonly maxAgeMs?: number;
  readonly allowCredentials?: boolean;
  readonly forwardUnmatchedPreflights: boolean;
}

export interface Fault {
  readonly delay?: { readonly ms: number; readonly percent: number };
  readonly abort?: { readonly percent: number } & ({ readonly httpStatus: number } | { readonly grpcStatus: number });
}

export interface Rewrite {
  readonly uri?: string;
  readonly authority?: string;
  readonly regex?: { readonly match: string; readonly rewrite: string };
}

export interface HttpRoute {
  readonly name: string;
  readonly matches: readonly HttpMatch[];
  readonly destinations: readonly Destination[];
  readonly redirect?: Redirect;
  readonly directResponse?: { readonly status: number; readonly body: string };
  readonly rewrite?: Rewrite;
  readonly timeoutMs?: number;
  readonly retries?: Retries;
  readonly mirrors: readonly Mirror[];
  readonly cors?: Cors;
  readonly fault?: Fault;
  readonly headers?: Headers;
}

export interface VirtualServiceSpec {
  readonly hosts: readonly string[];
  readonly gateways: readonly string[];
  readonly http: readonly HttpRoute[];
  readonly tcp: readonly L4Route[];
  readonly tls: readonly L4Route[];
  readonly exportTo: readonly string[];
}

const MAX_DIRECT_BODY_BYTES = 1024 * 1024;
const ROUTE_REFUSED = ['delegate', 'statPrefix'];

export function parseVirtualService(spec: unknown, reader: Reader = createReader()): Parsed<VirtualServiceSpec> {
  const root = object(reader, spec, 'spec', ['hosts', 'gateways', 'http', 'tcp', 'tls', 'exportTo']) ?? {};
  const hosts = texts(reader, root.hosts, 'spec.hosts');
  const gateways = texts(reader, root.gateways, 'spec.gateways');
  if (hosts.length === 0) report(reader, 'spec.hosts', 'required', 'virtual service must have at least one host');
  for (const [i, host] of hosts.entries()) checkHost(reader, host, `spec.hosts[${i}]`);
  const toMesh = gateways.length === 0 || gateways.includes('mesh');
  if (toMesh && hosts.includes('*'))
    report(
      reader,
      'spec.hosts',
      'wildcard',
      'wildcard host * is not allowed for virtual services bound to the mesh gateway',
    );
  for (const host of hosts.filter((h, i) => hosts.indexOf(h) !== i))
    report(reader, 'spec.hosts', 'duplicate', `duplicate hosts in virtual service: ${host}`);
  const http = list(reader, root.http, 'spec.http');
  const tcp = readTcpRoutes(reader, root.tcp, 'spec.tcp');
  const tls = readTlsRoutes(reader, root.tls, 'spec.tls', hosts);
  if (http.length + tcp.length + tls.length === 0)
    report(reader, 'spec.http', 'required', 'http, tcp or tls must be provided in virtual service');
  const routes = http.map((entry, i) => readRoute(reader, entry, `spec.http[${i}]`));
  warnUnreachable(reader, routes);
  return finish(reader, { hosts, gateways, http: routes, tcp, tls, exportTo: readExportTo(reader, root.exportTo) });
}

function warnUnreachable(reader: Reader, routes: readonly HttpRoute[]): void {
  const all = routes.findIndex((r) => r.matches.length === 0);
  if (all >= 0 && all < routes.length - 1)
    reader.warnings.push(`virtualService rule #${all + 1} not used (only the last rule can have no matches)`);
}

function readRoute(reader: Reader, value: unknown, path: string): HttpRoute {
  const raw =
    object(
      reader,
      value,
      path,
      [
        'name',
        'match',
        'route',
        'redirect',
        'directResponse',
        'rewrite',
        'timeout',
        'retries',
        'fault',
        'headers',
        'mirror',
        'mirrors',
        'mirrorPercent',
        'mirrorPercentage',
        'corsPolicy',
      ],
      ROUTE_REFUSED,
    ) ?? {};
  const matches = list(reader, raw.match, `${path}.match`).map((m, i) => readMatch(reader, m, `${path}.match[${i}]`));
  const destinations = readDestinations(reader, raw.route, `${path}.route`);
  const redirect = readRedirect(reader, raw.redirect, `${path}.redirect`);
  const direct = readDirect(reader, raw.directResponse, `${path}.directResponse`);
  const rewrite = readRewrite(reader, raw.rewrite, `${path}.rewrite`);
  const fault = readFault(reader, raw.fault, `${path}.fault`);
  const headers = readHeaders(reader, raw.headers, `${path}.headers`);
  const timeoutMs = duration(reader, raw.timeout, `${path}.timeout`);
  const retries = readRetries(reader, raw.retries, `${path}.retries`);
  const cors = readCors(reader, raw.corsPolicy, `${path}.corsPolicy`);
  checkActions(reader, path, { destinations: destinations.length, redirect, direct, rewrite, fault });
  return {
    name: text(reader, raw.name, `${path}.name`) ?? '',
    matches,
    destinations,
    ...(redirect ? { redirect } : {}),
    ...(direct ? { directResponse: direct } : {}),
    ...(rewrite ? { rewrite } : {}),
    ...(timeoutMs !== undefined ? { timeoutMs } : {}),
    ...(retries ? { retries } : {}),
    ...(fault ? { fault } : {}),
    ...(headers ? { headers } : {}),
    mirrors: readMirrors(reader, raw, path),
    ...(cors ? { cors } : {}),
  };
}

function checkActions(
  reader: Reader,
  path: string,
  has: { destinations: number; redirect: unknown; direct: unknown; rewrite: unknown; fault: unknown },
): void {
  const say = (message: string) => report(reader, path, 'actions', message);
  if (has.redirect && has.direct) say('HTTP route cannot contain both redirect and direct_response');
  if (has.redirect && has.destinations > 0) say('HTTP route cannot contain both route and redirect');
  if (has.direct && has.destinations > 0) say('HTTP route cannot contain both route and direct_response');
  if ((has.redirect || has.direct) && has.fault) say('HTTP route cannot contain both fault and redirect');
  if ((has.redirect || has.direct) && has.rewrite) say('HTTP route rule cannot contain both rewrite and redirect');
  if (!has.redirect && !has.direct && has.destinations === 0)
    say('HTTP route, redirect or direct_response is required');
}

function readRedirect(reader: Reader, value: unknown, path: string): Redirect | undefined {
  const raw = object(reader, value, path, [
    'uri',
    'authority',
    'scheme',
    'port',
    'redirectCode',
    'derivePort',
    'prefixRewrite',
  ]);
  if (!raw) return undefined;
  const prefix = text(reader, raw.prefixRewrite, `${path}.prefixRewrite`);
  const derive = oneOf(reader, raw.derivePort, `${path}.derivePort`, ['FROM_PROTOCOL_DEFAULT', 'FROM_REQUEST_PORT']);
  if (derive && raw.port !== undefined)
    report(reader, path, 'oneof', `${path}: only one of port and derivePort may be set`);
  if (prefix !== undefined && raw.uri !== undefined)
    report(reader, path, 'oneof', `${path}: only one of uri and prefixRewrite may be set`);
  const out = {
    uri: text(reader, raw.uri, `${path}.uri`),
    authority: text(reader, raw.authority, `${path}.authority`),
    scheme: text(reader, raw.scheme, `${path}.scheme`),
    port: integer(reader, raw.port, `${path}.port`, 1, 65535),
  };
  if (prefix === undefined && derive === undefined && Object.values(out).every((v) => v === undefined || v === ''))
    report(reader, path, 'empty', 'redirect must specify URI, authority, scheme, or port');
  const code = raw.redirectCode ?? 301;
  if (typeof code !== 'number' || ![301, 302, 303, 307, 308].includes(code)) {
    report(reader, `${path}.redirectCode`, 'code', `invalid redirect code: ${String(code)}`);
    return undefined;
  }
  return {
    code,
    ...(out.uri ? { uri: out.uri } : {}),
    ...(out.authority ? { authority: out.authority } : {}),
    ...(out.scheme ? { scheme: out.scheme } : {}),
    ...(out.port ? { port: out.port } : {}),
    ...(prefix === undefined ? {} : { prefix }),
    ...(derive ? { derivePort: derive } : {}),
  };
}

function readDirect(reader: Reader, value: unknown, path: string): { status: number; body: string } | undefined {
  const raw = object(reader, value, path, ['status', 'body']);
  if (!raw) return undefined;
  const body = object(reader, raw.body, `${path}.body`, ['string'], ['bytes']);
  const content = text(reader, body?.string, `${path}.body.string`) ?? '';
  if (Buffer.byteLength(content) > MAX_DIRECT_BODY_BYTES)
    report(reader, `${path}.body`, 'too-large', `${path}.body is larger than ${MAX_DIRECT_BODY_BYTES} bytes`);
  return { status: integer(reader, raw.status, `${path}.status`, 200, 599) ?? 200, body: content };
}

function readRewrite(reader: Reader, value: unknown, path: string): Rewrite | undefined {
  const raw = object(reader, value, path, ['uri', 'authority', 'uriRegexRewrite']);
  if (!raw) return undefined;
  const uri = text(reader, raw.uri, `${path}.uri`);
  const authority = text(reader, raw.authority, `${path}.authority`);
  const own = object(reader, raw.uriRegexRewrite, `${path}.uriRegexRewrite`, ['match', 'rewrite']);
  const match = text(reader, own?.match, `${path}.uriRegexRewrite.match`) ?? '';
  const rewrite = text(reader, own?.rewrite, `${path}.uriRegexRewrite.rewrite`) ?? '';
  if (own && (match === '' || rewrite === ''))
    report(reader, `${path}.uriRegexRewrite`, 'required', 'uriRegexRewrite needs both match and rewrite');
  if (own && match !== '') checkRegex(reader, match, `${path}.uriRegexRewrite.match`);
  if (own && uri) report(reader, path, 'oneof', 'rewrite may only contain one of URI or uriRegexRewrite');
  if (!uri && !authority && !own) report(reader, path, 'empty', 'rewrite must specify URI, authority, or both');
  return {
    ...(uri ? { uri } : {}),
    ...(authority ? { authority } : {}),
    ...(own ? { regex: { match, rewrite } } : {}),
  };
}

function readMirrors(reader: Reader, raw: RawObject, path: string): readonly Mirror[] {
  const many = list(reader, raw.mirrors, `${path}.mirrors`);
  if (raw.mirror !== undefined && many.length > 0)
    report(reader, path, 'oneof', 'HTTP route cannot contain both mirror and mirrors');
  if (raw.mirror !== undefined && raw.mirror !== null) {
    const [destination] = readDestinations(reader, [{ destination: raw.mirror }], `${path}.mirror`);
    const old = integer(reader, raw.mirrorPercent, `${path}.mirrorPercent`, 0, 100);
    const percent = percentage(reader, raw.mirrorPercentage, `${path}.mirrorPercentage`, '') ?? old ?? 100;
    return destination ? [{ destination, percent }] : [];
  }
  return many.flatMap((entry, i) => {
    const at = `${path}.mirrors[${i}]`;
    const own = object(reader, entry, at, ['destination', 'percentage']) ?? {};
    const [destination] = readDestinations(reader, [{ destination: own.destination }], at);
    return destination ? [{ destination, percent: percentage(reader, own.percentage, at) ?? 100 }] : [];
  });
}

function readCors(reader: Reader, value: unknown, path: string): Cors | undefined {
  const raw = object(reader, value, path, [
    'allowOrigin',
    'allowOrigins',
    'allowMethods',
    'allowHeaders',
    'exposeHeaders',
    'maxAge',
    'allowCredentials',
    'unmatchedPreflights',
  ]);
  if (!raw) return undefined;
  const origins = list(reader, raw.allowOrigins, `${path}.allowOrigins`).map(
    (o, i) => readStringMatch(reader, o, `${path}.allowOrigins[${i}]`) ?? { kind: 'present' as const },
  );
  const old = texts(reader, raw.allowOrigin, `${path}.allowOrigin`).map(
    (value): StringMatch => (value === '*' ? { kind: 'present' } : { kind: 'exact', value }),
  );
  const maxAge = duration(reader, raw.maxAge, `${path}.maxAge`);
  const credentials = flag(reader, raw.allowCredentials, `${path}.allowCredentials`);
  const preflights = oneOf(reader, raw.unmatchedPreflights, `${path}.unmatchedPreflights`, [
    'UNSPECIFIED',
    'FORWARD',
    'IGNORE',
  ]);
  return {
    allowOrigins: [...origins, ...old],
    allowMethods: texts(reader, raw.allowMethods, `${path}.allowMethods`),
    allowHeaders: texts(reader, raw.allowHeaders, `${path}.allowHeaders`),
    exposeHeaders: texts(reader, raw.exposeHeaders, `${path}.exposeHeaders`),
    ...(maxAge === undefined ? {} : { maxAgeMs: maxAge }),
    ...(credentials === undefined ? {} : { allowCredentials: credentials }),
    forwardUnmatchedPreflights: preflights !== 'IGNORE',
  };
}

function readFault(reader: Reader, value: unknown, path: string): Fault | undefined {
  const raw = object(reader, value, path, ['delay', 'abort']);
  if (!raw) return undefined;
  if (!raw.delay && !raw.abort) report(reader, path, 'empty', 'HTTP fault injection must have an abort and/or a delay');
  const delay = object(
    reader,
    raw.delay,
    `${path}.delay`,
    ['fixedDelay', 'percentage', 'percent'],
    ['exponentialDelay'],
  );
  const abort = object(reader, raw.abort, `${path}.abort`, ['httpStatus', 'grpcStatus', 'percentage'], ['http2Error']);
  const grpc = oneOf(reader, abort?.grpcStatus, `${path}.abort.grpcStatus`, GRPC_CODES);
  const ms = duration(reader, delay?.fixedDelay, `${path}.delay.fixedDelay`);
  if (delay && (ms === undefined || ms < 1))
    report(reader, `${path}.delay.fixedDelay`, 'required', 'duration must be greater than 1ms');
  const old = integer(reader, delay?.percent, `${path}.delay.percent`, 0, 100);
  const status = integer(reader, abort?.httpStatus, `${path}.abort.httpStatus`, 200, 599);
  if (abort && (status === undefined) === (grpc === undefined))
    report(
      reader,
      `${path}.abort`,
      'required',
      'HTTP abort fault needs exactly one of httpStatus (200-599) and grpcStatus',
    );
  return {
    ...(delay
      ? { delay: { ms: ms ?? 0, percent: percentage(reader, delay.percentage, `${path}.delay`) ?? old ?? 0 } }
      : {}),
    ...(abort
      ? {
          abort: {
            ...(grpc === undefined ? { httpStatus: status ?? 500 } : { grpcStatus: GRPC_CODES.indexOf(grpc) }),
            percent: percentage(reader, abort.percentage, `${path}.abort`) ?? 0,
          },
        }
      : {}),
  };
}

/** 0–100; undefined when absent. */
function percentage(reader: Reader, value: unknown, path: string, field = '.percentage'): number | undefined {
  const raw = object(reader, value, `${path}${field}`, ['value']);
  if (!raw) return undefined;
  const percent = raw.value ?? 0;
  if (typeof percent !== 'number' || percent < 0 || percent > 100) {
    report(reader, `${path}${field}`, 'out-of-range', `percentage ${String(percent)} must be in range 0..100`);
    return undefined;
  }
  return percent;
}
