// Route tables that depend on the request: scopes chosen by headers (SRDS), and hosts and scopes fetched when first asked for
// (VHDS, on_demand).
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import { type ControlPlane, startControlPlane } from './testing/control-plane.ts';
import { discoveryCluster } from './testing/discovery.ts';
import {
  ask,
  hcm,
  listener,
  ROUTER,
  socketAddress,
  startApp,
  startEngine,
  staticCluster,
  typed,
  until,
} from './testing/engine.ts';

const SOURCE: JsonObject = {
  api_config_source: {
    api_type: 'DELTA_GRPC',
    transport_api_version: 'V3',
    grpc_services: [{ envoy_grpc: { cluster_name: 'xds' } }],
  },
  initial_fetch_timeout: '0s',
  resource_api_version: 'V3',
};
const ON_DEMAND = typed('envoy.filters.http.on_demand', 'envoy.extensions.filters.http.on_demand.v3.OnDemand');

/** A connection manager whose routes come as `specifier` says. */
function manager(specifier: JsonObject): JsonObject {
  const { route_config: _none, ...rest } = (hcm({}) as { typed_config: JsonObject }).typed_config;
  return {
    name: 'envoy.filters.network.http_connection_manager',
    typed_config: { ...rest, ...specifier, http_filters: [ON_DEMAND, ROUTER] },
  };
}

const answer = (body: string): JsonObject => ({
  match: { prefix: '/' },
  direct_response: { status: 200, body: { inline_string: body } },
});
const table = (name: string, body: string): JsonObject => ({
  name,
  virtual_hosts: [{ name: 'v', domains: ['*'], routes: [answer(body)] }],
});

function config(plane: ControlPlane, specifier: JsonObject): JsonObject {
  return {
    node: { id: 'n', cluster: 'c' },
    static_resources: {
      clusters: [discoveryCluster('xds', socketAddress(plane.port)), staticCluster('app', [1])],
      listeners: [listener('in', [{ filters: [manager(specifier)] }])],
    },
  };
}

const scoped = (extra: JsonObject): JsonObject => ({
  scoped_routes: {
    name: 'tenants',
    scope_key_builder: {
      fragments: [
        {
          header_value_extractor: { name: 'x-tenant', element_separator: ';', element: { separator: '=', key: 'id' } },
        },
      ],
    },
    rds_config_source: SOURCE,
    ...extra,
  },
});
const key = (value: string): JsonObject => ({ fragments: [{ string_key: value }] });
const tenant = (value: string): Record<string, string> => ({ 'x-tenant': value });

test('SRDS: headers choose the scope; scopes come, go, and may not have the same key', async (t) => {
  const plane = await startControlPlane(t);
  const scope = (name: string, value: string, routes: string): JsonObject => ({
    name,
    route_configuration_name: routes,
    key: key(value),
  });
  plane.set('srds', 'a', scope('a', 'one', 'table-1'));
  plane.set('srds', 'b', scope('b', 'two', 'table-2'));
  plane.set('rds', 'table-1', table('table-1', 'first'));
  const engine = await startEngine(
    t,
    config(plane, scoped({ scoped_rds: { scoped_rds_config_source: SOURCE } })),
    false,
  );
  await until(() => plane.seen.some((request) => request.names.includes('table-2')), 'the tables are asked');
  assert.equal(engine.engine.state, 'INITIALIZING', 'a table is missing');
  plane.set('rds', 'table-2', table('table-2', 'second'));
  await engine.engine.whenLive();
  const port = engine.port('in');
  assert.equal((await ask(port, '/', { headers: tenant('x=1;id=one') })).body, 'first');
  assert.equal((await ask(port, '/', { headers: tenant('id=two') })).body, 'second');
  assert.equal((await ask(port, '/', { headers: tenant('id=three') })).status, 404);
  assert.equal((await ask(port)).status, 404, 'without the header there is no scope');
  plane.set('srds', 'c', scope('c', 'one', 'table-2'));
  await until(() => plane.seen.some((request) => request.error !== undefined), 'a NACK');
  assert.match(
    plane.seen.find((request) => request.error !== undefined)!.error!,
    /scope key conflict found, first scope is 'a', second scope is 'c'/,
  );
  plane.remove('srds', 'a');
  plane.set('srds', 'b', scope('b', 'one', 'table-2'));
  await until(() => engine.counter('http.test.scoped_rds.tenants.update_success') >= 3, 'the new scopes');
  assert.equal((await ask(port, '/', { headers: tenant('id=one') })).body, 'second');
  assert.equal((await ask(port, '/', { headers: tenant('id=two') })).status, 404);
});

test('scopes may stand in the listener, with their tables, and be loaded when first asked for', async (t) => {
  const plane = await startControlPlane(t);
  const list: JsonObject = {
    scoped_route_configurations: [
      { name: 'here', key: key('here'), route_configuration: table('inline', 'inline') },
      { name: 'later', key: key('later'), on_demand: true, route_configuration_name: 'table-l' },
    ],
  };
  plane.set('rds', 'table-l', table('table-l', 'late'));
  const engine = await startEngine(t, config(plane, scoped({ scoped_route_configurations_list: list })));
  const port = engine.port('in');
  assert.equal((await ask(port, '/', { headers: tenant('id=here') })).body, 'inline');
  assert.ok(!plane.seen.some((request) => request.names.includes('table-l')), 'nobody asked yet');
  const both = await Promise.all([1, 2].map(() => ask(port, '/', { headers: tenant('id=later') })));
  assert.deepEqual(
    both.map((each) => each.body),
    ['late', 'late'],
  );
});

test('VHDS: a host is asked for once, answers of all kinds let the requests go, a new table forgets', async (t) => {
  const plane = await startControlPlane(t);
  const app = await startApp(t, 'app');
  assert.ok(app.port > 0);
  const base = (body: string): JsonObject => ({
    name: 'r',
    virtual_hosts: [{ name: 'fixed', domains: ['fixed.example'], routes: [answer(body)] }],
    vhds: { config_source: SOURCE },
  });
  plane.set('rds', 'r', base('fixed'));
  plane.set(
    'vhds',
    'r/new.example',
    { name: 'new', domains: ['new.example'], routes: [answer('new')] },
    {
      aliases: ['r/new.example'],
    },
  );
  plane.setEmpty('vhds', 'r/none.example', ['r/none.example']);
  const engine = await startEngine(t, config(plane, { rds: { route_config_name: 'r', config_source: SOURCE } }));
  const port = engine.port('in');
  const get = (host: string) => ask(port, '/', { headers: { host } });
  assert.equal((await get('fixed.example')).body, 'fixed');
  const many = await Promise.all(Array.from({ length: 5 }, () => get('new.example')));
  assert.deepEqual([...new Set(many.map((each) => each.body))], ['new']);
  assert.equal((await get('none.example')).status, 404);
  assert.equal((await get('none.example')).status, 404);
  const asked = plane.seen.filter((request) => request.names.includes('r/new.example'));
  assert.equal(asked.length, 1, 'five requests, one question');
  plane.set('vhds', 'r/new.example', { name: 'new', domains: ['new.example'], routes: [answer('newer')] });
  await until(() => engine.counter('http.test.vhds.r.update_success') >= 3, 'the new host');
  assert.equal((await get('new.example')).body, 'newer');
  plane.remove('vhds', 'r/new.example');
  await until(() => engine.counter('http.test.vhds.r.update_success') >= 4, 'the host is gone');
  assert.equal((await get('new.example')).status, 404);
  plane.set('vhds', 'r/new.example', { name: 'new', domains: ['new.example'], routes: [answer('again')] });
  plane.set('rds', 'r', base('changed'));
  await until(() => engine.counter('http.test.rds.r.update_success') === 2, 'the new table');
  assert.equal((await get('fixed.example')).body, 'changed');
  assert.equal((await get('new.example')).body, 'again', 'asked anew');
});
