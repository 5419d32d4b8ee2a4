// One connection manager with given HTTP filters, fed by hand: requests in, what the upstream and the client got out. No
// sockets; time is a fake clock. For unit tests of HTTP filters.
import { fromJson, type JsonObject } from '@bufbuild/protobuf';
import { RouteConfigurationSchema } from '#proto/envoy/config/route/v3/route_pb.js';
import { HttpConnectionManagerSchema } from '#proto/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js';
import { createFakeClock, type FakeClock } from '../../../../test/fakes/fake-clock.ts';
import { extensionRegistry } from '../config/bootstrap.ts';
import type { AbortReason, ResponseSender } from '../http/codec.ts';
import { ConnectionManager } from '../http/connection-manager.ts';
import { HeaderMap, headerName } from '../http/header-map.ts';
import { readManager } from '../http/settings.ts';
import { HttpStream } from '../http/stream.ts';
import type { ConnectionInfo } from '../http/stream-info.ts';
import type { HttpFilter } from '../http-filter/filter.ts';
import { FilterPlan } from '../http-filter/plan.ts';
import { buildPerFilter } from '../http-filter/registry.ts';
import { noPressure } from '../overload/pressure.ts';
import { RouteTable } from '../route/route-table.ts';
import { oneTable } from '../route/source.ts';
import { EMPTY_RUNTIME, type RuntimeView } from '../runtime/runtime.ts';
import { StatsScope, StatsStore } from '../stats/stats.ts';
import { constant } from '../transport-socket/secrets.ts';

export const CONNECTION: ConnectionInfo = {
  id: 1,
  local: { kind: 'ip', ip: '10.0.0.1', port: 80 },
  directLocal: { kind: 'ip', ip: '10.0.0.1', port: 80 },
  remote: { kind: 'ip', ip: '10.0.0.2', port: 5000 },
  directRemote: { kind: 'ip', ip: '10.0.0.2', port: 5000 },
  requestedServerName: '',
  transportProtocol: 'raw_buffer',
  alpn: [],
  tls: undefined,
  listenerName: 'l',
  chainName: 'c',
  direction: 'unspecified',
  state: new Map(),
  metadata: new Map(),
};

export function headerMap(values: Readonly<Record<string, string>>): HeaderMap {
  const map = new HeaderMap(64);
  for (const [name, value] of Object.entries(values)) map.add(headerName(name), value);
  return map;
}

export function headerRecord(map: HeaderMap | undefined): Record<string, string> {
  const out: Record<string, string> = {};
  map?.forEach((name, value) => {
    out[name] = name in out ? `${out[name]},${value}` : value;
  });
  return out;
}

/** One request and everything that came of it. */
export interface Exchange {
  readonly stream: HttpStream;
  /** What the terminal filter got; undefined = the request did not reach it. */
  readonly upstream: () => { headers: Record<string, string>; body: string; ended: boolean } | undefined;
  readonly status: () => number;
  readonly headers: () => Record<string, string>;
  readonly body: () => string;
  readonly trailers: () => Record<string, string> | undefined;
  readonly ended: () => boolean;
  readonly aborted: () => AbortReason | undefined;
  /** True while the client's side is not read. */
  readonly paused: () => boolean;
  send(body: string): void;
  end(trailers?: Readonly<Record<string, string>>): void;
  /** The upstream answers. */
  respond(
    status: number,
    headers?: Readonly<Record<string, string>>,
    body?: readonly string[],
    trailers?: Readonly<Record<string, string>>,
  ): void;
}

export interface FilterBench {
  readonly clock: FakeClock;
  readonly stats: StatsStore;
  readonly manager: ConnectionManager;
  counter(name: string): number;
  request(
    head: string,
    headers?: Readonly<Record<string, string>>,
    options?: { body?: boolean; connection?: Partial<ConnectionInfo> },
  ): Exchange;
}

export interface BenchOptions {
  /** Virtual host fields beside name and domains, or a whole RouteConfiguration. */
  readonly routes?: JsonObject;
  readonly hcm?: JsonObject;
  readonly runtime?: RuntimeView;
  readonly random?: () => number;
}

const NO_READER = {
  file: (path: string): Buffer => {
    throw new Error(path);
  },
  variable: () => undefined,
};

const FORMAT = {
  hostname: 'host.test',
  localAddress: '192.0.2.1',
  variable: () => undefined,
  random: () => 0.5,
  now: () => 0,
};

/** `make` gets what filters are built with; the terminal filter is the bench's own. */
export function filterBench(
  make: (context: {
    clock: FakeClock;
    stats: StatsStore;
    runtime: RuntimeView;
    random: () => number;
  }) => readonly HttpFilter[],
  options: BenchOptions = {},
): FilterBench {
  const clock = createFakeClock(1_000_000);
  const stats = new StatsStore();
  const runtime = options.runtime ?? EMPTY_RUNTIME;
  const random = options.random ?? (() => 0.5);
  const settings = readManager(
    fromJson(HttpConnectionManagerSchema, { stat_prefix: 'test', stream_idle_timeout: '0s', ...options.hcm }),
    {
      reader: NO_READER,
      format: FORMAT,
      runtime,
      random,
      direction: 'unspecified',
      serviceCluster: '',
      local: { id: '' },
    },
    'hcm',
  );
  const table = new RouteTable(
    fromJson(
      RouteConfigurationSchema,
      {
        virtual_hosts: [{ name: 'v', domains: ['*'], routes: [{ match: { prefix: '/' }, route: { cluster: 'app' } }] }],
        ...options.routes,
      },
      { registry: extensionRegistry },
    ),
    {
      perFilter: buildPerFilter,
      runtime,
      reader: NO_READER,
      format: FORMAT,
      stats,
      clock,
      knownCluster: () => true,
      validateClusters: false,
    },
    'routes',
  );
  const reached = new WeakMap<HttpStream, { headers: Record<string, string>; body: string; ended: boolean }>();
  const terminal: HttpFilter = {
    name: 'end',
    onRequest(stream) {
      const got = { headers: headerRecord(stream.headers), body: '', ended: stream.requestEnded };
      reached.set(stream, got);
      stream.attach({
        onRequestData(bytes, start, end) {
          got.body += bytes.toString('latin1', start, end);
        },
        onRequestEnd() {
          got.ended = true;
        },
        onCancel() {},
        onResponseBacklog() {},
      });
      return 'stop';
    },
  };
  const manager = new ConnectionManager(
    settings,
    oneTable(constant('routes', table)),
    new FilterPlan([...make({ clock, stats, runtime, random }), terminal]),
    undefined,
    {
      clock,
      random,
      stats,
      listenerScope: new StatsScope(stats, 'listener.test.'),
      runtime,
      format: FORMAT,
      clusters: { find: () => undefined },
      load: { pressure: noPressure(), drainsOnFailingHealth: true, bypass: false },
    },
  );
  return {
    clock,
    stats,
    manager,
    counter: (name) => stats.counters.get(name)?.value ?? stats.gauges.get(name)?.value ?? 0,
    request: (head, headers = {}, request = {}) => exchange(manager, head, headers, request, reached),
  };
}

function exchange(
  manager: ConnectionManager,
  head: string,
  headers: Readonly<Record<string, string>>,
  options: { body?: boolean; connection?: Partial<ConnectionInfo> },
  reached: WeakMap<HttpStream, { headers: Record<string, string>; body: string; ended: boolean }>,
): Exchange {
  const [method = 'GET', target = '/'] = head.split(' ');
  const got = {
    status: 0,
    headers: undefined as HeaderMap | undefined,
    body: '',
    trailers: undefined as HeaderMap | undefined,
  };
  let ended = false;
  let paused = false;
  let aborted: AbortReason | undefined;
  const sender: ResponseSender = {
    sendInformational() {},
    sendHead(status, map, endStream) {
      got.status = status;
      got.headers = map;
      ended = endStream;
    },
    sendData(bytes, start, end) {
      got.body += bytes.toString('latin1', start, end);
    },
    sendEnd(trailers) {
      got.trailers = trailers;
      ended = true;
    },
    abort(reason) {
      aborted = reason;
    },
    pauseRequest() {
      paused = true;
    },
    resumeRequest() {
      paused = false;
    },
    wireBytesReceived: () => 0,
    headBytesReceived: () => 0,
    headBytesSent: () => 0,
    fieldBytesReceived: () => 0,
    fieldBytesSent: () => 0,
    wireBytesSent: () => 0,
  };
  const stream = new HttpStream(
    manager,
    { ...CONNECTION, state: new Map(), metadata: new Map(), ...options.connection },
    sender,
  );
  stream.onRequestHead(
    {
      method,
      target,
      scheme: '',
      protocol: 'HTTP/1.1',
      body: options.body ? ('content-length' in headers ? 'length' : 'chunked') : 'none',
      upgrade: '',
    },
    headerMap({ host: 'test.example', ...headers }),
    !options.body,
  );
  return {
    stream,
    upstream: () => reached.get(stream),
    status: () => got.status,
    headers: () => headerRecord(got.headers),
    body: () => got.body,
    trailers: () => (got.trailers ? headerRecord(got.trailers) : undefined),
    ended: () => ended,
    aborted: () => aborted,
    paused: () => paused,
    send: (body) => stream.onRequestData(Buffer.from(body, 'latin1'), 0, Buffer.byteLength(body, 'latin1')),
    end: (trailers) => stream.onRequestEnd(trailers && headerMap(trailers)),
    respond(status, responseHeaders = {}, body = [], trailers) {
      const only = body.length === 0 && !trailers;
      stream.sendHead(status, headerMap(responseHeaders), only);
      for (const chunk of body) stream.sendData(Buffer.from(chunk, 'latin1'), 0, Buffer.byteLength(chunk, 'latin1'));
      if (!only) stream.sendEnd(trailers && headerMap(trailers));
    },
  };
}
