// Everything the translator makes of the golden cases for the engine "envoy", inside the bootstrap our agent writes, must be taken by
// the stock binary. Without the binary (MELTEMI_ENVOY, or `meltemi engine add envoy`) there is nothing to ask: in CI that is an error.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { TYPE_URL } from '../../../src/base/xds/type-urls.ts';
import { resourcesToJson } from '../../../src/control-plane/serve/resource-json.ts';
import { generate } from '../../../src/control-plane/translate/generate.ts';
import { goldenCase, goldenCases } from '../../../src/control-plane/translate/golden.ts';
import { buildBootstrap } from '../../../src/data-plane/agent/bootstrap.ts';
import { buildNode } from '../../../src/data-plane/agent/node.ts';
import { parseAgentOptions } from '../../../src/data-plane/agent/options.ts';
import { envoyCommand, runEngine } from './engine-process.ts';
import { isObject } from './format.ts';

const envoy = envoyCommand();
const skip = envoy === undefined && process.env.CI === undefined ? 'the stock Envoy is not here' : false;

/** Routes come by RDS; a check of files alone needs them in their place. */
function inlineRoutes(value: unknown, routes: ReadonlyMap<string, unknown>, wanted: Set<string>): unknown {
  if (Array.isArray(value)) return value.map((item: unknown) => inlineRoutes(item, routes, wanted));
  if (!isObject(value)) return value;
  const out: Record<string, unknown> = {};
  for (const [key, item] of Object.entries(value)) {
    const name = key === 'rds' && isObject(item) ? String(item.route_config_name) : undefined;
    if (name === undefined) out[key] = inlineRoutes(item, routes, wanted);
    else {
      wanted.add(name);
      out.route_config = routes.get(name) ?? { name };
    }
  }
  return out;
}

for (const name of goldenCases())
  test(`stock Envoy takes ${name}`, { skip }, async (t) => {
    assert.ok(envoy, 'bring it with "./meltemi engine add envoy"');
    const dir = mkdtempSync(path.join(tmpdir(), 'meltemi-stock-'));
    t.after(() => rmSync(dir, { recursive: true, force: true }));
    const { snapshot, proxy } = goldenCase(name, 'envoy');
    const json = (type: string, names: Iterable<string>): unknown[] => [
      ...resourcesToJson(generate(snapshot, proxy, type, names)),
    ];
    const listeners = json(TYPE_URL.listener, []);
    const clusters = json(TYPE_URL.cluster, []);
    const wanted = new Set<string>();
    inlineRoutes(listeners, new Map(), wanted);
    const routes = new Map(json(TYPE_URL.route, wanted).map((r) => [String(isObject(r) ? r.name : ''), r]));
    assert.deepEqual([...routes.keys()].sort(), [...wanted].sort(), 'every route a listener names is made');
    const role = proxy.type === 'router' ? 'router' : 'sidecar';
    const options = parseAgentOptions([role], {
      POD_NAMESPACE: proxy.namespace,
      SERVICE_ACCOUNT: 'default',
      ISTIO_META_ENGINE: 'envoy',
    });
    const bootstrap = buildBootstrap(buildNode(options, { labels: '', annotations: '' }), options, {
      xds: path.join(dir, 'XDS'),
      sds: path.join(dir, 'SDS'),
    });
    const own = bootstrap.static_resources as { clusters: unknown[]; listeners: unknown[] };
    const file = path.join(dir, 'envoy.json');
    const config = {
      ...bootstrap,
      static_resources: {
        clusters: [...own.clusters, ...clusters],
        listeners: [...own.listeners, ...(inlineRoutes(listeners, routes, wanted) as unknown[])],
      },
    };
    writeFileSync(file, JSON.stringify(config, null, 1));
    const done = await runEngine(envoy, ['--mode', 'validate', '-c', file, '-l', 'warning'], dir);
    assert.equal(done.code, 0, `${done.stdout}${done.stderr}`);
  });
