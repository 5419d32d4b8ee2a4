// Route tables: the index finds what a walk over all routes finds, weights and cookies, and what is refused.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromJson, type JsonObject } from '@bufbuild/protobuf';
import fc from 'fast-check';
import type { VirtualHost } from '#proto/envoy/config/route/v3/route_components_pb.js';
import { RouteConfigurationSchema } from '#proto/envoy/config/route/v3/route_pb.js';
import { extensionRegistry } from '../config/bootstrap.ts';
import { HeaderMap, headerName } from '../http/header-map.ts';
import { StreamInfo } from '../http/stream-info.ts';
import { buildPerFilter } from '../http-filter/registry.ts';
import { EMPTY_RUNTIME, type RuntimeView } from '../runtime/runtime.ts';
import { StatsStore } from '../stats/stats.ts';
import { cookieValue, setCookie } from './cookies.ts';
import { queryValue, type RequestView } from './matchers.ts';
import { type HostMemory, type RouteContext, RouteTable } from './route-table.ts';

const contextWith = (runtime: RuntimeView) => ({
  runtime,
  reader: { file: () => Buffer.alloc(0), variable: () => undefined },
  stats: new StatsStore(),
  clock: { now: () => 0, after: () => () => {} },
  format: { hostname: 'h', localAddress: '192.0.2.1', variable: () => undefined, random: () => 0.5, now: () => 0 },
  knownCluster: (name: string) => name === 'known',
  perFilter: buildPerFilter,
  validateClusters: false,
});

function table(config: JsonObject, runtime: RuntimeView = EMPTY_RUNTIME): RouteTable {
  const message = fromJson(RouteConfigurationSchema, config, { registry: extensionRegistry });
  return new RouteTable(message, contextWith(runtime), 'r');
}

const connection = {
  remote: { kind: 'ip', ip: '10.0.0.1', port: 1 },
  metadata: new Map(),
  state: new Map(),
} as unknown as StreamInfo['connection'];

function request(path: string, authority = 'a', given: Record<string, string> = {}): RequestView {
  const headers = new HeaderMap();
  for (const [name, value] of Object.entries(given)) headers.add(headerName(name), value);
  return { method: 'GET', path, authority, scheme: 'http', headers, info: new StreamInfo(connection, 0) };
}

test('the index finds what a walk finds', () => {
  const segment = fc.constantFrom('a', 'b', 'ab', 'A');
  const path = fc.array(segment, { minLength: 1, maxLength: 3 }).map((parts) => `/${parts.join('/')}`);
  const match = fc.record({
    kind: fc.constantFrom('path', 'prefix', 'path_separated_prefix'),
    value: path,
    fold: fc.boolean(),
    header: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(match, { maxLength: 12 }), path, fc.boolean(), (matches, asked, withHeader) => {
      const routes = matches.map((entry, i) => ({
        name: String(i),
        match: {
          [entry.kind]: entry.value,
          case_sensitive: !entry.fold,
          ...(entry.header ? { headers: [{ name: 'x', present_match: true }] } : {}),
        },
        direct_response: { status: 200 },
      }));
      const made = table({ virtual_hosts: [{ name: 'v', domains: ['*'], routes }] });
      const wanted = matches.findIndex((entry) => {
        const fold = (text: string) => (entry.fold ? text.toLowerCase() : text);
        const [have, want] = [fold(asked), fold(entry.value)];
        const onPath =
          entry.kind === 'path'
            ? have === want
            : entry.kind === 'prefix'
              ? have.startsWith(want)
              : have === want || have.startsWith(`${want}/`);
        return onPath && (!entry.header || withHeader);
      });
      const found = made.find(request(`${asked}?q`, 'a', withHeader ? { x: '1' } : {}), () => 0);
      assert.equal(found?.name, wanted < 0 ? undefined : String(wanted));
    }),
    { numRuns: 500 },
  );
});

test('weights are shares, and the runtime may move them', () => {
  const config = {
    virtual_hosts: [
      {
        name: 'v',
        domains: ['*'],
        routes: [
          {
            match: { prefix: '/' },
            route: {
              weighted_clusters: {
                runtime_key_prefix: 'w',
                clusters: [
                  { name: 'a', weight: 1 },
                  { name: 'b', weight: 3 },
                ],
              },
            },
          },
        ],
      },
    ],
  };
  const chosen = (made: RouteTable, dice: number): string => {
    const action = made.find(request('/'), () => 0)!.action;
    assert.ok(action.kind === 'forward');
    return action.choose(request('/'), () => dice).name;
  };
  const plain = table(config);
  assert.deepEqual(
    [0, 0.24, 0.25, 0.99].map((dice) => chosen(plain, dice)),
    ['a', 'a', 'b', 'b'],
  );
  const moved = table(config, { ...EMPTY_RUNTIME, number: (key, fallback) => (key === 'w.b' ? 0 : fallback) });
  assert.equal(chosen(moved, 0.99), 'a');
});

test('query values and cookies are found where they stand', () => {
  assert.equal(queryValue('/p?a=1&b=2&a=3', 'a'), '1');
  assert.equal(queryValue('/p?ba=1&a', 'a'), '');
  assert.equal(queryValue('/p?', 'a'), undefined);
  assert.equal(queryValue('/p', 'a'), undefined);
  fc.assert(
    fc.property(fc.webQueryParameters(), fc.string(), (query, name) => {
      const pair = query.split('&').find((entry) => entry.split('=')[0] === name);
      assert.equal(queryValue(`/?${query}`, name), pair === undefined ? undefined : pair.slice(name.length + 1));
    }),
  );
  const headers = request('/', 'a', { cookie: 'a=1; b="two"; aa=3' }).headers;
  assert.deepEqual(
    ['a', 'b', 'aa', 'c'].map((name) => cookieValue(headers, name)),
    ['1', 'two', '3', undefined],
  );
  assert.equal(
    setCookie({ name: 'c', path: '/p', maxAgeS: 5, attributes: [{ name: 'Secure', value: '' }] }, 'v'),
    'c="v"; Max-Age=5; Path=/p; Secure; HttpOnly',
  );
});

test('what a table cannot mean is refused by name and path', () => {
  const refused = (routes: JsonObject[], reason: RegExp, extra: JsonObject = {}) =>
    assert.throws(() => table({ virtual_hosts: [{ name: 'v', domains: ['*'], routes }], ...extra }), reason);
  const to = (action: JsonObject): JsonObject[] => [{ match: { prefix: '/' }, route: { cluster: 'c', ...action } }];
  refused(to({}), /route: unknown cluster 'c'/, { validate_clusters: true });
  refused(to({ hedge_policy: { hedge_on_per_try_timeout: true } }), /routes\[0\]\.route\.hedge_policy: field of/);
  refused(to({ cors: { allow_methods: 'x' } }), /route\.cors: field of/);
  refused(to({ retry_policy: { retry_on: 'sometimes' } }), /condition 'sometimes' is not supported/);
  refused(to({ retry_policy: { retry_back_off: { base_interval: '1s', max_interval: '0.5s' } } }), /max_interval/);
  refused([{ match: {}, route: { cluster: 'c' } }], /path_specifier: value is required/);
  refused([{ match: { prefix: '/' } }], /action: value is required/);
  refused([{ match: { prefix: '/' }, direct_response: { status: 600 } }], /status: value must be inside range/);
});

test('a virtual host that stays when others come is not compiled again', () => {
  const hostOf = (name: string): JsonObject => ({ name, domains: [name], routes: [] });
  const message = fromJson(RouteConfigurationSchema, { name: 'r', virtual_hosts: [hostOf('a'), hostOf('b')] });
  const [a, b] = message.virtualHosts;
  const seen: string[] = [];
  const memory: HostMemory = {
    compiled: new WeakMap(),
    contextOf(host: { readonly name: string }, context: RouteContext) {
      seen.push(host.name);
      return context;
    },
  };
  const compile = (virtualHosts: VirtualHost[]) =>
    new RouteTable({ ...message, virtualHosts }, contextWith(EMPTY_RUNTIME), 'r', memory);
  const first = compile([a!]).findHost('a');
  const both = compile([b!, a!]);
  assert.equal(both.findHost('a'), first);
  assert.equal(both.findHost('b')?.name, 'b');
  assert.deepEqual(seen, ['a', 'b']);
});
