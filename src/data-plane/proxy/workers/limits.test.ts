// Limits of the whole program with two workers: each is one number, as in Envoy, and a worker that dies gives back what it had.
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import { ask, bootstrap, hcm, listener, routes, staticCluster, T, toCluster } from '../testing/engine.ts';
import { eventually, startProgram } from '../testing/program.ts';
import { startSlowApp } from './testing.ts';

const RATE_LIMIT: JsonObject = {
  name: 'limit',
  typed_config: {
    '@type': `${T}envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit`,
    stat_prefix: 'rate',
    token_bucket: { max_tokens: 5, tokens_per_fill: 1, fill_interval: '3600s' },
    filter_enabled: { default_value: { numerator: 100 } },
    filter_enforced: { default_value: { numerator: 100 } },
  },
};
const ROUTER: JsonObject = {
  name: 'envoy.filters.http.router',
  typed_config: { '@type': `${T}envoy.extensions.filters.http.router.v3.Router` },
};
const CONNECTION_LIMIT: JsonObject = {
  name: 'cx',
  typed_config: {
    '@type': `${T}envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit`,
    stat_prefix: 'cx',
    max_connections: 3,
  },
};
const CONNECTION_RATE: JsonObject = {
  name: 'rate',
  typed_config: {
    '@type': `${T}envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit`,
    stat_prefix: 'rate',
    token_bucket: { max_tokens: 4, tokens_per_fill: 1, fill_interval: '3600s' },
  },
};

/** A connection that says nothing; false once the proxy has closed it. */
async function hold(t: TestContext, port: number): Promise<{ socket: Socket; open: boolean }> {
  const held = { socket: connect(port, '127.0.0.1'), open: true };
  held.socket.on('error', () => {});
  held.socket.on('close', () => {
    held.open = false;
  });
  held.socket.resume();
  t.after(() => held.socket.destroy());
  await new Promise<void>((resolve) => {
    held.socket.once('connect', () => resolve());
    held.socket.once('close', () => resolve());
  });
  return held;
}

const many = <T>(count: number, make: () => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: count }, make));

test('circuit breakers, rate limits and connection limits count once for two workers', {
  timeout: 60_000,
}, async (t) => {
  const app = await startSlowApp(t);
  const breakers = { thresholds: [{ max_requests: 2, track_remaining: true }] };
  const direct: JsonObject = { match: { prefix: '/' }, direct_response: { status: 200 } };
  const limited = hcm(routes([direct]), { http_filters: [RATE_LIMIT, ROUTER] });
  // On the route, where each worker compiles the table for itself.
  const onRoute: JsonObject = {
    ...direct,
    typed_per_filter_config: {
      limit: { ...(RATE_LIMIT.typed_config as JsonObject), token_bucket: { max_tokens: 3, fill_interval: '3600s' } },
    },
  };
  const idle: JsonObject = {
    ...(RATE_LIMIT.typed_config as JsonObject),
    token_bucket: undefined as unknown as JsonObject,
  };
  const byRoute = hcm(routes([onRoute]), {
    http_filters: [{ name: 'limit', typed_config: JSON.parse(JSON.stringify(idle)) as JsonObject }, ROUTER],
  });
  const config = bootstrap(
    [
      listener('breakers', [{ filters: [hcm(routes([toCluster('app')]))] }]),
      listener('rate', [{ filters: [limited] }]),
      listener('by_route', [{ filters: [byRoute] }]),
      listener('cx', [{ filters: [CONNECTION_LIMIT, hcm(routes([direct]))] }]),
      listener('cx_rate', [{ filters: [CONNECTION_RATE, hcm(routes([direct]))] }]),
    ],
    [staticCluster('app', [app.port], { circuit_breakers: breakers })],
  );
  const program = await startProgram(t, config, 2);

  const port = await program.port('breakers');
  const asked = many(24, () => ask(port));
  await eventually(
    'the rest overflowed',
    async () => (await program.stat('cluster.app.upstream_rq_active_overflow')) === 22,
  );
  await eventually('both are there', async () => app.waiting === 2);
  assert.equal(await program.stat('cluster.app.circuit_breakers.default.rq_open'), 1);
  assert.equal(await program.stat('cluster.app.circuit_breakers.default.remaining_rq'), 0);
  app.answer();
  const statuses = (await asked).map(({ status }) => status).sort();
  assert.deepEqual(statuses, [200, 200, ...Array.from({ length: 22 }, () => 503)]);
  assert.equal(await program.stat('cluster.app.circuit_breakers.default.remaining_rq'), 2);

  const passed = async (name: string): Promise<number> => {
    const at = await program.port(name);
    return (await many(24, () => ask(at))).filter(({ status }) => status === 200).length;
  };
  assert.equal(await passed('rate'), 5);
  assert.equal(await passed('by_route'), 3);

  const held = await many(16, async () => hold(t, await program.port('cx')));
  await eventually('13 were closed', async () => held.filter(({ open }) => open).length === 3);
  assert.equal(await program.stat('connection_limit.cx.limited_connections'), 13);
  const rated = await many(16, async () => hold(t, await program.port('cx_rate')));
  await eventually('12 were closed', async () => rated.filter(({ open }) => open).length === 4);
  assert.equal(program.log(), '');
});

test('a discovered rate limit counts once too, and so do its defaults', { timeout: 60_000 }, async (t) => {
  const dir = mkdtempSync(path.join(tmpdir(), 'meltemi-limits-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const file = (name: string, resources: JsonObject[]): JsonObject => {
    writeFileSync(path.join(dir, name), JSON.stringify({ resources }));
    return { path_config_source: { path: path.join(dir, name) }, resource_api_version: 'V3' };
  };
  const { typed_config: rate } = CONNECTION_RATE as { typed_config: JsonObject };
  const type = `${T}envoy.config.core.v3.TypedExtensionConfig`;
  const discovered = (name: string, source: JsonObject, extra: JsonObject = {}): JsonObject => ({
    name,
    config_discovery: { config_source: source, type_urls: [rate['@type'] as string], ...extra },
  });
  const come = discovered('come', file('come', [{ '@type': type, name: 'come', typed_config: rate }]));
  const stays = discovered('stays', file('stays', []), {
    default_config: rate,
    apply_default_config_without_warming: true,
  });
  const direct: JsonObject = { match: { prefix: '/' }, direct_response: { status: 200 } };
  const config = bootstrap(
    [come, stays].map((filter, i) => listener(`in_${i}`, [{ filters: [filter, hcm(routes([direct]))] }])),
    [],
    { node: { id: 'n', cluster: 'c' } },
  );
  const program = await startProgram(t, config, 2);
  for (const name of ['in_0', 'in_1']) {
    const port = await program.port(name);
    const held = await many(16, () => hold(t, port));
    await eventually('12 were closed', async () => held.filter(({ open }) => open).length === 4);
  }
  assert.equal(program.log(), '');
});

test('the limit of all connections is one; what a dead worker had is free again', { timeout: 60_000 }, async (t) => {
  const dir = mkdtempSync(path.join(tmpdir(), 'meltemi-limits-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const trigger = path.join(dir, 'die');
  const preload = `
    import { existsSync, rmSync } from 'node:fs';
    import { isMainThread, workerData } from 'node:worker_threads';
    if (!isMainThread) setInterval(() => {
      const file = ${JSON.stringify(trigger)} + workerData.index;
      if (!existsSync(file)) return;
      rmSync(file);
      throw new Error('a bug of the test');
    }, 10).unref();`;
  const direct: JsonObject = { match: { prefix: '/' }, direct_response: { status: 200 } };
  const config = bootstrap([listener('in', [{ filters: [hcm(routes([direct]))] }])], [], {
    overload_manager: {
      resource_monitors: [
        {
          name: 'envoy.resource_monitors.global_downstream_max_connections',
          typed_config: {
            '@type': `${T}envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig`,
            max_active_downstream_connections: '6',
          },
        },
      ],
    },
  });
  const program = await startProgram(t, config, 2, { preload });
  const port = await program.port('in');
  const openOf = (list: readonly { open: boolean }[]): number => list.filter(({ open }) => open).length;
  // The admin interface's own connections count too, as they come and go.
  const held = await many(32, () => hold(t, port));
  await eventually('the rest were closed', async () => openOf(held) <= 6);
  for (const worker of [0, 1]) {
    writeFileSync(trigger + worker, '');
    await eventually('it died', async () => !existsSync(trigger + worker));
  }
  await eventually('their connections are gone', async () => openOf(held) === 0);
  await eventually('it serves again', () =>
    ask(port).then(
      ({ status }) => status === 200,
      () => false,
    ),
  );
  assert.match(program.log(), /a worker died and is started anew.*a bug of the test/s);
});
