// What is only discovered when a request wants it, with workers: the main thread asks once for all, and all learn the answer.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import { type ControlPlane, startControlPlane } from '../testing/control-plane.ts';
import { discoveryCluster } from '../testing/discovery.ts';
import { ask, hcm, listener, ROUTER, socketAddress, type TestEngine, typed } from '../testing/engine.ts';
import { eventually } from '../testing/program.ts';
import { startThreads } from './testing.ts';

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

function config(plane: ControlPlane, specifier: JsonObject): JsonObject {
  const { route_config: _none, ...rest } = (hcm({}) as { typed_config: JsonObject }).typed_config;
  const manager: JsonObject = {
    name: 'envoy.filters.network.http_connection_manager',
    typed_config: { ...rest, ...specifier, http_filters: [ON_DEMAND, ROUTER] },
  };
  return {
    node: { id: 'n', cluster: 'c' },
    static_resources: {
      clusters: [discoveryCluster('xds', socketAddress(plane.port))],
      listeners: [listener('in', [{ filters: [manager] }])],
    },
  };
}

const answer = (body: string): JsonObject => ({
  match: { prefix: '/' },
  direct_response: { status: 200, body: { inline_string: body } },
});
const host = (name: string, body: string): JsonObject => ({
  name,
  domains: [`${name}.example`],
  routes: [answer(body)],
});
const get = async (worker: TestEngine, name: string): Promise<string> => {
  const { status, body } = await ask(worker.port('in'), '/', { headers: { host: `${name}.example` } });
  return status === 200 ? body : String(status);
};

test('VHDS: one worker asks, the main thread asks the server, all have the answer', { timeout: 60_000 }, async (t) => {
  const plane = await startControlPlane(t);
  const base = (body: string): JsonObject => ({
    name: 'r',
    virtual_hosts: [host('fixed', body)],
    vhds: { config_source: SOURCE },
  });
  plane.set('rds', 'r', base('fixed'));
  plane.set('vhds', 'r/new.example', host('new', 'new'), { aliases: ['r/new.example'] });
  plane.set('vhds', 'r/bad.example', { ...host('bad', 'x'), domains: [] }, { aliases: ['r/bad.example'] });
  plane.setEmpty('vhds', 'r/none.example', ['r/none.example']);
  const { main, workers, kill } = startThreads(
    t,
    config(plane, { rds: { route_config_name: 'r', config_source: SOURCE } }),
    2,
  );
  await main.engine.start();
  await main.engine.whenLive();
  const all = (name: string): Promise<string[]> => Promise.all(workers.map((worker) => get(worker, name)));
  assert.deepEqual(await all('fixed'), ['fixed', 'fixed']);
  assert.deepEqual(await all('new'), ['new', 'new']);
  assert.deepEqual(await all('none'), ['404', '404']);
  assert.deepEqual(await all('bad'), ['404', '404'], 'what is refused lets the requests go');
  assert.deepEqual(await all('none'), ['404', '404']);
  const asked = plane.seen.filter(({ names }) => names.includes('r/new.example'));
  assert.equal(asked.length, 1, 'one question for both');
  plane.set('vhds', 'r/new.example', host('new', 'newer'));
  await eventually('the new host is everywhere', async () => (await all('new')).join() === 'newer,newer');
  await kill(0);
  await eventually('it knows the host', async () => (await get(workers[0]!, 'new')) === 'newer');
  plane.remove('vhds', 'r/new.example');
  await eventually('the host is gone', async () => (await all('new')).join() === '404,404');
  plane.set('vhds', 'r/new.example', host('new', 'again'));
  plane.set('rds', 'r', base('changed'));
  await eventually('the new table', async () => (await all('fixed')).join() === 'changed,changed');
  assert.deepEqual(await all('new'), ['again', 'again'], 'asked anew');
  assert.equal(plane.seen.filter(({ names }) => names.includes('r/new.example')).length, 2);
});

test('a scope on demand is loaded by the worker that needs it, through the main thread', {
  timeout: 60_000,
}, async (t) => {
  const plane = await startControlPlane(t);
  plane.set('rds', 'table', { name: 'table', virtual_hosts: [{ ...host('any', 'late'), domains: ['*'] }] });
  const scoped: JsonObject = {
    scoped_routes: {
      name: 'tenants',
      scope_key_builder: {
        fragments: [
          {
            header_value_extractor: {
              name: 'x-tenant',
              element_separator: ';',
              element: { separator: '=', key: 'id' },
            },
          },
        ],
      },
      rds_config_source: SOURCE,
      scoped_route_configurations_list: {
        scoped_route_configurations: [
          {
            name: 'later',
            key: { fragments: [{ string_key: 'later' }] },
            on_demand: true,
            route_configuration_name: 'table',
          },
        ],
      },
    },
  };
  const { main, workers } = startThreads(t, config(plane, scoped), 2);
  await main.engine.start();
  await main.engine.whenLive();
  assert.ok(!plane.seen.some(({ names }) => names.includes('table')), 'nobody asked yet');
  for (const worker of workers)
    assert.equal((await ask(worker.port('in'), '/', { headers: { 'x-tenant': 'id=later' } })).body, 'late');
  assert.equal(plane.seen.filter(({ names }) => names.includes('table')).length, 1);
});
