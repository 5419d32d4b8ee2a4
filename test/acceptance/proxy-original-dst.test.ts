// The proxy behind real capture rules, in network namespaces of this test: original destination in and out, hand-off to
// listeners that are not bound, the source address of inbound connections, IPv4 and IPv6, RST under STRICT. Needs root.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';

const root = path.resolve(import.meta.dirname, '..', '..');
const id = process.pid % 10_000;
const POD = `px-pod-${id}`;
const OUTSIDE = `px-out-${id}`;
/** The application's user: what it sends is captured. */
const APP_UID = 2000;
const dir = mkdtempSync(path.join(tmpdir(), 'proxy-original-dst-'));
const children: ChildProcess[] = [];

const ip = (...args: string[]) => execFileSync('ip', args, { stdio: ['ignore', 'pipe', 'pipe'] });
const inPod = (...command: string[]) =>
  execFileSync('ip', ['netns', 'exec', POD, ...command], { stdio: ['ignore', 'pipe', 'pipe'] });

function curl(namespace: string, user: number, ...args: string[]): { code: number; out: string } {
  const command = [
    'netns',
    'exec',
    namespace,
    'setpriv',
    `--reuid=${user}`,
    '--clear-groups',
    'curl',
    '-s',
    '-m',
    '5',
    ...args,
  ];
  const run = spawnSync('ip', command, { encoding: 'utf8' });
  return { code: run.status ?? -1, out: run.stdout };
}

function start(namespace: string, name: string, ...args: string[]): ChildProcess {
  const child = spawn('ip', ['netns', 'exec', namespace, process.execPath, ...args], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  child.on('error', (error) => console.error(name, error));
  children.push(child);
  return child;
}

async function until(test: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + 15_000;
  while (!test()) {
    assert.ok(Date.now() < deadline, `did not happen: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Answers every request with its own name, the peer it saw and the address it was reached at. */
const APP = `
const http = require('node:http');
const [name, ...ports] = process.argv.slice(2);
for (const port of ports) http.createServer((q, r) => r.end([name, q.socket.remoteAddress, q.socket.localAddress + ':' + q.socket.localPort].join(' '))).listen(+port, '::');
`;

const type = (name: string, rest: object = {}) => ({ '@type': `type.googleapis.com/${name}`, ...rest });
const filter = (name: string, message: string, rest: object = {}) => ({ name, typed_config: type(message, rest) });
const ORIGINAL_DST = filter('original_dst', 'envoy.extensions.filters.listener.original_dst.v3.OriginalDst');
const TLS = filter('tls_inspector', 'envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector');
const HTTP = filter('http_inspector', 'envoy.extensions.filters.listener.http_inspector.v3.HttpInspector');
const bind = (address: string, port: number) => ({ socket_address: { address, port_value: port } });
const toHttp = (cluster: string, server: string) =>
  filter('hcm', 'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager', {
    stat_prefix: server,
    server_name: server,
    route_config: {
      virtual_hosts: [{ name: 'v', domains: ['*'], routes: [{ match: { prefix: '/' }, route: { cluster } }] }],
    },
    http_filters: [filter('router', 'envoy.extensions.filters.http.router.v3.Router')],
  });
const toTcp = (cluster: string) =>
  filter('tcp', 'envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy', { stat_prefix: cluster, cluster });
const originalDst = (name: string, rest: object = {}) => ({
  name,
  type: 'ORIGINAL_DST',
  lb_policy: 'CLUSTER_PROVIDED',
  connect_timeout: '2s',
  ...rest,
});

function inbound(name: string, address: string) {
  return {
    name,
    address: bind(address, 15006),
    traffic_direction: 'INBOUND',
    listener_filters: [ORIGINAL_DST, TLS],
    filter_chains: [
      {
        filter_chain_match: { destination_port: 8080, transport_protocol: 'raw_buffer' },
        filters: [toHttp('inbound', 'istio-envoy')],
      },
      // Port 8081 is STRICT as far as plain text is concerned: no chain for it.
      { filter_chain_match: { destination_port: 8081, transport_protocol: 'tls' }, filters: [toTcp('inbound')] },
    ],
  };
}

const CONFIG = {
  admin: { address: bind('127.0.0.1', 15000) },
  static_resources: {
    listeners: [
      inbound('virtualInbound', '0.0.0.0'),
      inbound('virtualInbound6', '::'),
      {
        name: 'virtualOutbound',
        address: bind('0.0.0.0', 15001),
        traffic_direction: 'OUTBOUND',
        use_original_dst: true,
        listener_filters: [ORIGINAL_DST],
        filter_chains: [{ filters: [toTcp('PassthroughCluster')] }],
      },
      {
        name: '0.0.0.0_80',
        address: bind('0.0.0.0', 80),
        bind_to_port: false,
        traffic_direction: 'OUTBOUND',
        listener_filters: [TLS, HTTP],
        filter_chains: [
          {
            filter_chain_match: { application_protocols: ['http/1.1'] },
            filters: [toHttp('PassthroughCluster', 'by-port-80')],
          },
        ],
      },
    ],
    clusters: [
      originalDst('PassthroughCluster'),
      originalDst('inbound', {
        upstream_bind_config: {
          source_address: { address: '127.0.0.6', port_value: 0 },
          extra_source_addresses: [{ address: { address: '::6', port_value: 0 } }],
        },
      }),
    ],
  },
};

before(async () => {
  for (const name of [POD, OUTSIDE]) {
    ip('netns', 'add', name);
    ip('-n', name, 'link', 'set', 'lo', 'up');
  }
  ip('link', 'add', 'eth0', 'netns', POD, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', OUTSIDE);
  for (const [name, host] of [
    [POD, '2'],
    [OUTSIDE, '3'],
  ] as const) {
    ip('-n', name, 'addr', 'add', `10.99.0.${host}/24`, 'dev', 'eth0');
    ip('-n', name, 'addr', 'add', `fd99::${host}/64`, 'dev', 'eth0', 'nodad');
    ip('-n', name, 'link', 'set', 'eth0', 'up');
  }
  ip('-n', POD, 'addr', 'add', '::6/128', 'dev', 'lo');
  for (const tables of ['iptables', 'ip6tables'])
    inPod(tables, '-t', 'nat', '-A', 'PREROUTING', '-p', 'tcp', '-j', 'REDIRECT', '--to-ports', '15006');
  inPod(
    'iptables',
    '-t',
    'nat',
    '-A',
    'OUTPUT',
    '-p',
    'tcp',
    '-m',
    'owner',
    '--uid-owner',
    String(APP_UID),
    '-j',
    'REDIRECT',
    '--to-ports',
    '15001',
  );
  writeFileSync(path.join(dir, 'app.cjs'), APP);
  writeFileSync(path.join(dir, 'envoy.json'), JSON.stringify(CONFIG));
  start(POD, 'app', path.join(dir, 'app.cjs'), 'pod-app', '8080', '8081');
  start(OUTSIDE, 'app', path.join(dir, 'app.cjs'), 'outside-app', '80', '9000');
  start(
    POD,
    'envoy',
    path.join(root, 'src/data-plane/proxy/main.ts'),
    '-c',
    path.join(dir, 'envoy.json'),
    '-l',
    'warning',
  );
  await until(
    () => curl(POD, 0, '-o', '/dev/null', '-w', '%{http_code}', 'http://127.0.0.1:15000/ready').out === '200',
    'the proxy is ready',
  );
  await until(() => curl(OUTSIDE, 0, 'http://127.0.0.1:9000/').code === 0, 'the outside application listens');
});

after(() => {
  for (const child of children) child.kill('SIGKILL');
  for (const name of [POD, OUTSIDE]) spawnSync('ip', ['netns', 'del', name]);
  rmSync(dir, { recursive: true, force: true });
});

test('a captured inbound connection reaches the port it was meant for, from 127.0.0.6', () => {
  const { code, out } = curl(OUTSIDE, 0, '-i', 'http://10.99.0.2:8080/');
  assert.equal(code, 0);
  assert.match(out, /server: istio-envoy/);
  assert.match(out, /pod-app ::ffff:127\.0\.0\.6 ::ffff:10\.99\.0\.2:8080$/);
});

test('the same over IPv6, from ::6', () => {
  const { code, out } = curl(OUTSIDE, 0, 'http://[fd99::2]:8080/');
  assert.deepEqual([code, out], [0, 'pod-app ::6 fd99::2:8080']);
});

test('plain text to a port whose chains all want TLS: curl exits with 56', () => {
  assert.deepEqual(curl(OUTSIDE, 0, '-o', '/dev/null', '-w', '%{http_code}', 'http://10.99.0.2:8081/'), {
    code: 56,
    out: '000',
  });
});

test('captured outbound connections go to the listener of their port, or pass through untouched', () => {
  const byPort = curl(POD, APP_UID, '-i', 'http://10.99.0.3:80/');
  assert.match(byPort.out, /server: by-port-80/);
  assert.match(byPort.out, /outside-app ::ffff:10\.99\.0\.2 ::ffff:10\.99\.0\.3:80$/);
  const other = curl(POD, APP_UID, '-i', 'http://10.99.0.3:9000/');
  assert.doesNotMatch(other.out, /server:/);
  assert.match(other.out, /outside-app ::ffff:10\.99\.0\.2 ::ffff:10\.99\.0\.3:9000$/);
});

test('the proxy ends at once when told to', async () => {
  const pid = /pid=(\d+)/.exec(
    execFileSync('ip', ['netns', 'exec', POD, 'ss', '-tlnpH', 'sport', '=', ':15006']).toString(),
  )?.[1];
  assert.ok(pid);
  assert.equal(execFileSync('ps', ['-o', 'comm=', '-p', pid]).toString().trim(), 'envoy');
  process.kill(Number(pid), 'SIGTERM');
  await until(() => curl(POD, 0, 'http://127.0.0.1:15000/ready').code === 7, 'the admin port is closed');
});
