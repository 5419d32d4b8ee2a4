// Fifty updates a second to listeners, routes, clusters, endpoints and secrets under full load, without one failed or wrong
// answer. Six seconds by default; MELTEMI_CHURN_SECONDS=60 (CI does) for the whole minute.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import { type ControlPlane, startControlPlane } from '../../src/data-plane/proxy/testing/control-plane.ts';
import { discoveryCluster } from '../../src/data-plane/proxy/testing/discovery.ts';
import {
  ask,
  type Ca,
  createCa,
  hcm,
  type Identity,
  socketAddress,
  startApp,
  typed,
  until,
} from '../../src/data-plane/proxy/testing/engine.ts';

const root = path.dirname(path.dirname(import.meta.dirname));
const seconds = Number(process.env.MELTEMI_CHURN_SECONDS ?? 6);
const UPDATES_PER_S = 50;
const CONNECTIONS = 32;
const ADS: JsonObject = { ads: {}, initial_fetch_timeout: '0s', resource_api_version: 'V3' };

/** A port of the kernel's choice, free a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

interface Apps {
  readonly a: readonly number[];
  readonly b: readonly number[];
}

/** Every resource as version `n` of it. */
class Mesh {
  readonly #plane: ControlPlane;
  readonly #apps: Apps;
  readonly #identities: readonly Identity[];
  readonly #ports: { readonly plain: number; readonly tls: number };

  constructor(plane: ControlPlane, apps: Apps, identities: readonly Identity[], ports: { plain: number; tls: number }) {
    this.#plane = plane;
    this.#apps = apps;
    this.#identities = identities;
    this.#ports = ports;
  }

  update(what: number, n: number): void {
    const name = n % 2 === 0 ? 'a' : 'b';
    if (what === 0) this.cluster(name, n);
    else if (what === 1) this.endpoints(name, n);
    else if (what === 2) this.listener(n % 2 === 0 ? 'plain' : 'tls', n);
    else if (what === 3) this.route(n);
    else this.secret(n);
  }

  cluster(name: 'a' | 'b', n: number): void {
    this.#plane.set('cds', name, {
      name,
      type: 'EDS',
      eds_cluster_config: { eds_config: ADS },
      connect_timeout: `${2 + (n % 7)}s`,
    });
  }

  endpoints(name: 'a' | 'b', n: number): void {
    const ports = this.#apps[name];
    const chosen = n % 3 === 0 ? ports : [ports[n % ports.length]!];
    this.#plane.set('eds', name, {
      cluster_name: name,
      endpoints: [{ lb_endpoints: chosen.map((port) => ({ endpoint: { address: socketAddress(port) } })) }],
    });
  }

  listener(name: 'plain' | 'tls', n: number): void {
    const { route_config: _none, ...rest } = (hcm({}) as { typed_config: JsonObject }).typed_config;
    const manager = {
      name: 'envoy.filters.network.http_connection_manager',
      // Every fourth version is another chain, the others differ in the listener only.
      typed_config: {
        ...rest,
        stat_prefix: `${name}${Math.floor(n / 4) % 3}`,
        rds: { route_config_name: 'r', config_source: ADS },
      },
    };
    const secret = { name: 'server', sds_config: ADS };
    const tls = typed('envoy.transport_sockets.tls', 'envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext', {
      common_tls_context: { tls_certificate_sds_secret_configs: [secret] },
    });
    this.#plane.set('lds', name, {
      name,
      address: socketAddress(this.#ports[name]),
      per_connection_buffer_limit_bytes: 1_000_000 + (n % 5),
      filter_chains: [{ filters: [manager], ...(name === 'tls' ? { transport_socket: tls } : {}) }],
    });
  }

  route(n: number): void {
    const to = (cluster: string): JsonObject => ({
      match: { prefix: `/${cluster}` },
      route: { cluster, timeout: `${10 + (n % 5)}s` },
      response_headers_to_add: [{ header: { key: 'x-version', value: String(n) } }],
    });
    const routes = n % 2 === 0 ? [to('a'), to('b')] : [to('b'), to('a')];
    this.#plane.set('rds', 'r', { name: 'r', virtual_hosts: [{ name: 'all', domains: ['*'], routes }] });
  }

  secret(n: number): void {
    const identity = this.#identities[n % this.#identities.length]!;
    this.#plane.set('sds', 'server', {
      name: 'server',
      tls_certificate: {
        certificate_chain: { inline_string: identity.certificate },
        private_key: { inline_string: identity.key },
      },
    });
  }
}

function startProxy(t: TestContext, folder: string, adsPort: number, adminPort: number): ChildProcess {
  const file = path.join(folder, 'bootstrap.json');
  const bootstrap = {
    node: { id: 'churn', cluster: 'churn' },
    admin: { address: socketAddress(adminPort) },
    dynamic_resources: {
      lds_config: ADS,
      cds_config: ADS,
      ads_config: {
        api_type: 'DELTA_GRPC',
        transport_api_version: 'V3',
        set_node_on_first_message_only: true,
        grpc_services: [{ envoy_grpc: { cluster_name: 'xds' } }],
      },
    },
    static_resources: { clusters: [discoveryCluster('xds', socketAddress(adsPort))] },
  };
  writeFileSync(file, JSON.stringify(bootstrap));
  const program = path.join(root, 'src/data-plane/proxy/main.ts');
  const child = spawn(
    process.execPath,
    [
      '--disable-warning=ExperimentalWarning',
      program,
      '-c',
      file,
      '-l',
      'error',
      '--drain-time-s',
      '5',
      '--disable-hot-restart',
    ],
    { stdio: ['ignore', 'inherit', 'inherit'] },
  );
  t.after(() => child.kill('SIGKILL'));
  return child;
}

async function accepts(port: number): Promise<boolean> {
  try {
    await ask(port, '/ready');
    return true;
  } catch {
    return false;
  }
}

async function startLoad(t: TestContext, args: readonly string[]) {
  const load = spawn(process.execPath, [path.join(import.meta.dirname, 'churn-load.ts'), ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.after(() => load.kill('SIGKILL'));
  const lines = createInterface(load.stdout)[Symbol.asyncIterator]();
  await lines.next();
  return {
    async end() {
      load.stdin.end();
      const line = (await lines.next()).value as string;
      return JSON.parse(line) as {
        requests: number;
        failed: number;
        wrong: number;
        reconnects: number;
        examples: string[];
      };
    },
  };
}

test(`${UPDATES_PER_S} updates a second for ${seconds} s at full load: no failed and no wrong answer`, async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), 'meltemi-churn-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const ca: Ca = await createCa();
  const identities = [
    await ca.issue('spiffe://t/one'),
    await ca.issue('spiffe://t/two'),
    await ca.issue('spiffe://t/three'),
  ];
  const caFile = path.join(folder, 'ca.pem');
  writeFileSync(caFile, ca.pem);
  const app = async (name: string): Promise<number> =>
    (await startApp(t, name, () => ({ headers: { 'content-length': '1' } }))).port;
  const apps: Apps = { a: [await app('a'), await app('a'), await app('a')], b: [await app('b'), await app('b')] };
  const plane = await startControlPlane(t);
  const ports = { plain: await freePort(), tls: await freePort() };
  const mesh = new Mesh(plane, apps, identities, ports);
  for (const name of ['a', 'b'] as const) {
    mesh.cluster(name, 0);
    mesh.endpoints(name, 0);
  }
  mesh.secret(0);
  mesh.route(0);
  mesh.listener('plain', 0);
  mesh.listener('tls', 0);
  const adminPort = await freePort();
  const proxy = startProxy(t, folder, plane.port, adminPort);
  let live = false;
  const poll = setInterval(async () => {
    live ||= (await accepts(adminPort)) && (await ask(adminPort, '/ready')).status === 200;
  }, 50);
  t.after(() => clearInterval(poll));
  await until(() => live, 'the proxy is live', 20_000);
  clearInterval(poll);

  const load = await startLoad(t, [String(ports.plain), String(ports.tls), caFile, String(CONNECTIONS)]);
  const total = seconds * UPDATES_PER_S;
  const lastRoute = Math.floor((total - 2) / 5) + 1;
  const started = performance.now();
  await new Promise<void>((resolve) => {
    let n = 0;
    const timer = setInterval(() => {
      // As many as are due: a late timer makes up for it.
      const due = Math.min(total, Math.floor(((performance.now() - started) / 1000) * UPDATES_PER_S));
      for (; n < due; n++) mesh.update(n % 5, Math.floor(n / 5) + 1);
      if (n < total) return;
      clearInterval(timer);
      resolve();
    }, 5);
  });
  const result = await load.end();
  assert.equal(proxy.exitCode, null, 'the proxy still runs');
  t.diagnostic(`${result.requests} requests, ${result.reconnects} connections, ${total} updates`);
  assert.deepEqual(
    plane.seen.filter((request) => request.error !== undefined).map((request) => request.error),
    [],
    'no update was refused',
  );
  assert.deepEqual(
    { failed: result.failed, wrong: result.wrong, examples: result.examples },
    { failed: 0, wrong: 0, examples: [] },
  );
  const last = await ask(ports.plain, '/a');
  assert.equal(last.headers['x-version'], String(lastRoute), 'the last update took effect');
  assert.ok(result.requests > 100 * seconds, `only ${result.requests} requests`);
});
