// The node network on the real kernel: namespaces, addresses, Services, host ports, recovery. Needs root.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync } from 'node:fs';
import { createServer, type Server, Socket } from 'node:net';
import { after, before, test } from 'node:test';
import * as dnsPacket from 'dns-packet';
import { ENDPOINT_SLICES, type EndpointSlice } from '../../src/api/kubernetes/endpoint-slice.ts';
import { EVENTS, type Event } from '../../src/api/kubernetes/event.ts';
import { SERVICES, type Service } from '../../src/api/kubernetes/service.ts';
import { AF_INET, bindIpv4, inNetns, openSocket, SOCK_STREAM } from '../../src/base/netns/syscalls.ts';
import { systemClock } from '../../src/base/runtime/clock.ts';
import { silentLog } from '../../src/base/runtime/log.ts';
import { startDns } from '../../src/localkube/dns/dns-server.ts';
import {
  type LocalNodeNetwork,
  listInstanceLeftovers,
  removeNetwork,
  startNodeNetwork,
} from '../../src/localkube/network/node-network.ts';
import { type ServiceProxy, startServiceProxy } from '../../src/localkube/network/service-proxy.ts';
import { createFakeKube } from '../fakes/kube-client.ts';

const instance = `test-${process.pid}`;
const options = { instance, log: silentLog, clock: systemClock };
const DIAL_MS = 3000;
const kube = createFakeKube();
const servers: Server[] = [];
let network: LocalNodeNetwork;
let proxy: ServiceProxy;
// The clock's timers do not hold the process; the tests do.
const keepAlive = setInterval(() => {}, 1000);

before(async () => {
  removeNetwork(instance);
  network = await startNodeNetwork(options);
  proxy = startServiceProxy({ client: kube, network, clock: systemClock, log: silentLog });
  await proxy.ready;
});

after(async () => {
  proxy.close();
  for (const server of servers) server.close();
  await network.close();
  removeNetwork(instance);
  clearInterval(keepAlive);
  assert.deepEqual(listInstanceLeftovers(instance), []);
});

/** A server inside a pod that answers with its name and the caller's address. */
async function serveInPod(key: string, port: number): Promise<string> {
  const pod = await network.attachPod(key);
  const netns = openSync(pod.netnsPath, 'r');
  const fd = inNetns(netns, () => openSocket(AF_INET, SOCK_STREAM));
  bindIpv4(fd, '0.0.0.0', port, { reuseAddress: true });
  const server = createServer((socket) => socket.end(`${key} ${socket.remoteAddress}`));
  servers.push(server);
  server.listen({ fd });
  await once(server, 'listening');
  return pod.ip;
}

async function readAll(socket: Socket): Promise<string> {
  let text = '';
  for await (const chunk of socket) text += chunk;
  return text;
}

const ask = async (ip: string, port: number): Promise<string> => readAll(await network.dial(ip, port, DIAL_MS));
const askFrom = async (key: string, ip: string, port: number): Promise<string> =>
  readAll(await network.dialInPod(key, ip, port, DIAL_MS));

async function askHost(port: number): Promise<string> {
  const socket = new Socket().connect(port, '127.0.0.1');
  await once(socket, 'connect');
  return readAll(socket);
}

/** Tries until it is so; the condition is the test's, the limit only says when to give up. */
async function eventually<T>(read: () => Promise<T>, good: (value: T) => boolean): Promise<T> {
  const end = Date.now() + 5000;
  for (;;) {
    const value = await read();
    if (good(value)) return value;
    if (Date.now() > end) assert.fail(`still ${JSON.stringify(value)}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'ok',
    (error: NodeJS.ErrnoException) => error.code ?? error.message,
  );

function service(name: string, clusterIP: string, spec: Partial<Service['spec']> = {}): Service {
  const ports = spec.ports ?? [{ name: 'http', port: 80, targetPort: 8080 }];
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace: 'default' },
    spec: { clusterIP, ...spec, ports },
  };
}

function slice(name: string, ips: readonly string[], port = 8080): EndpointSlice {
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: `${name}-1`, namespace: 'default', labels: { 'kubernetes.io/service-name': name } },
    addressType: 'IPv4',
    endpoints: ips.map((ip) => ({ addresses: [ip], conditions: { ready: true } })),
    ports: [{ name: 'http', port, protocol: 'TCP' }],
  };
}

async function setEndpoints(name: string, ips: readonly string[]): Promise<void> {
  const current = await kube.get<EndpointSlice>(ENDPOINT_SLICES, 'default', `${name}-1`);
  await kube.update(ENDPOINT_SLICES, { ...current, endpoints: slice(name, ips).endpoints });
}

test('a pod has its own address, reaches the node and other pods, and keeps both over a restart', async () => {
  const ip = await serveInPod('uid-a', 8080);
  const again = await network.attachPod('uid-a');
  assert.equal(again.ip, ip);
  const other = await network.attachPod('uid-b');
  assert.notEqual(other.ip, ip);
  assert.equal(await ask(ip, 8080), 'uid-a 10.244.0.1');
  assert.equal(await askFrom('uid-b', ip, 8080), `uid-a ${other.ip}`);
  assert.equal(await askFrom('uid-a', '127.0.0.1', 8080), 'uid-a 127.0.0.1');
  const second = await startNodeNetwork(options);
  assert.deepEqual(await second.attachPod('uid-b'), other);
  assert.equal(await askFrom('uid-b', ip, 8080), `uid-a ${other.ip}`);
  await second.close();
});

test('attaching is fast enough not to be felt', async () => {
  const start = performance.now();
  for (let i = 0; i < 5; i += 1) await network.attachPod(`fast-${i}`);
  const each = (performance.now() - start) / 5;
  for (let i = 0; i < 5; i += 1) await network.detachPod(`fast-${i}`);
  assert.ok(each < 100, `${each} ms a pod`);
});

test('a ClusterIP reaches ready pods, follows changes, refuses without any, and works for the pod itself', async () => {
  const a = await serveInPod('svc-a', 8080);
  const b = await serveInPod('svc-b', 8080);
  assert.equal(await codeOf(ask('10.96.1.1', 80)), 'ECONNREFUSED');
  await kube.create(SERVICES, service('web', '10.96.1.1'));
  await kube.create(ENDPOINT_SLICES, slice('web', [a]));
  await eventually(
    () => codeOf(ask('10.96.1.1', 80)),
    (c) => c === 'ok',
  );
  assert.equal(await ask('10.96.1.1', 80), 'svc-a 10.244.0.1');
  assert.equal(await askFrom('svc-b', '10.96.1.1', 80), `svc-a ${b}`);
  assert.equal(await askFrom('svc-a', '10.96.1.1', 80), 'svc-a 10.244.0.1', 'hairpin');
  assert.equal(await codeOf(ask('10.96.1.1', 81)), 'ECONNREFUSED');

  await setEndpoints('web', [a, b]);
  const seen = new Set<string>();
  await eventually(
    () => ask('10.96.1.1', 80),
    (text) => seen.add(text.split(' ')[0] ?? '').size === 2,
  );
  await setEndpoints('web', []);
  await eventually(
    () => codeOf(askFrom('svc-b', '10.96.1.1', 80)),
    (c) => c === 'ECONNREFUSED',
  );
  assert.equal(await codeOf(ask('10.96.1.1', 80)), 'ECONNREFUSED');
  await setEndpoints('web', [b]);
  await eventually(
    () => codeOf(ask('10.96.1.1', 80)),
    (c) => c === 'ok',
  );
  await kube.delete(SERVICES, 'default', 'web');
  await eventually(
    () => codeOf(ask('10.96.1.1', 80)),
    (c) => c === 'ECONNREFUSED',
  );
});

test('sessionAffinity ClientIP keeps a client at one pod, also when another pod joins', async () => {
  const ips = [await serveInPod('aff-a', 8080), await serveInPod('aff-b', 8080)];
  await kube.create(SERVICES, service('sticky', '10.96.1.2', { sessionAffinity: 'ClientIP' }));
  await kube.create(ENDPOINT_SLICES, slice('sticky', ips));
  await eventually(
    () => codeOf(ask('10.96.1.2', 80)),
    (c) => c === 'ok',
  );
  const first = await ask('10.96.1.2', 80);
  const joined = await serveInPod('aff-c', 8080);
  await setEndpoints('sticky', [...ips, joined]);
  for (let i = 0; i < 20; i += 1) assert.equal(await ask('10.96.1.2', 80), first);
});

test('NodePort and LoadBalancer ports appear on the host; a busy one is said and the node port remains', async () => {
  const ip = await serveInPod('lb', 8080);
  const client = await network.attachPod('lb-client');
  const busy = createServer();
  busy.listen(0, '127.0.0.1');
  await once(busy, 'listening');
  const busyPort = (busy.address() as { port: number }).port;
  const free = createServer();
  free.listen(0, '127.0.0.1');
  await once(free, 'listening');
  const nodePort = (free.address() as { port: number }).port;
  free.close();
  await once(free, 'close');
  const ports = [{ name: 'http', port: busyPort, targetPort: 8080, nodePort }];
  await kube.create(SERVICES, service('edge', '10.96.1.3', { type: 'LoadBalancer', ports }));
  await kube.create(ENDPOINT_SLICES, slice('edge', [ip]));
  await eventually(
    () => codeOf(askHost(nodePort)),
    (c) => c === 'ok',
  );
  assert.equal(await askHost(nodePort), 'lb 10.244.0.1');
  const edge = await kube.get<Service>(SERVICES, 'default', 'edge');
  assert.deepEqual(edge.status?.loadBalancer?.ingress, [{ ip: '127.0.0.1' }]);
  assert.equal(await askFrom('lb-client', '10.244.0.1', nodePort), `lb ${client.ip}`);
  const [event] = kube.stored<Event>(EVENTS);
  assert.match(event?.message ?? '', new RegExp(`127.0.0.1:${busyPort} \\(EADDRINUSE\\).*127.0.0.1:${nodePort}`));
  await setEndpoints('edge', []);
  await eventually(
    () => codeOf(askHost(nodePort)),
    (c) => c === 'ECONNREFUSED',
  );
  busy.close();
});

test('DNS answers on the address of kube-dns, by UDP and TCP, to a real resolver', async () => {
  const dns = await startDns({
    client: kube,
    network,
    clusterDomain: 'cluster.local',
    clock: systemClock,
    log: silentLog,
  });
  await dns.ready;
  await kube.create(SERVICES, service('named', '10.96.1.9'));
  const pod = await network.attachPod('resolver');
  const lookup = `const { Resolver } = require('node:dns/promises'); const r = new Resolver(); r.setServers(['10.96.0.10']);
    Promise.all([r.resolve4('named.default.svc.cluster.local'), r.resolve6('named.default.svc.cluster.local').catch((e) => e.code),
      r.resolve4('www.example.com').catch((e) => e.code)]).then((a) => console.log(JSON.stringify(a)))`;
  const args = ['netns', 'exec', pod.netnsPath.slice('/run/netns/'.length), process.execPath, '-e', lookup];
  const child = spawn('ip', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  for await (const chunk of child.stdout) said += chunk;
  assert.deepEqual(JSON.parse(said), [['10.96.1.9'], 'ENODATA', 'ENOTFOUND']);
  const socket = await network.dialInPod('resolver', '10.96.0.10', 53, DIAL_MS);
  const query = dnsPacket.encode({
    type: 'query',
    id: 5,
    questions: [{ name: 'named.default.svc.cluster.local', type: 'A' }],
  });
  socket.write(Buffer.concat([Buffer.from([0, query.length]), query]));
  const [answer] = (await once(socket, 'data')) as [Buffer];
  const [record] = dnsPacket.decode(answer.subarray(2)).answers ?? [];
  assert.equal(record && 'data' in record && record.data, '10.96.1.9');
  socket.destroy();
  await dns.close();
});

test('after a crash everything of the instance is found and removed, and nothing of another', async () => {
  const other = `${instance}-x`;
  const neighbour = await startNodeNetwork({ ...options, instance: other });
  const script = `import { startNodeNetwork } from ${JSON.stringify(new URL('../../src/localkube/network/node-network.ts', import.meta.url).href)};
    const n = await startNodeNetwork({ instance: '${instance}-c', log: { info() {} }, clock: {} });
    await n.attachPod('one'); await n.attachPod('two'); process.kill(process.pid, 'SIGKILL');`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'inherit' });
  const [, signal] = await once(child, 'exit');
  assert.equal(signal, 'SIGKILL');
  assert.equal(listInstanceLeftovers(`${instance}-c`).length, 3);
  removeNetwork(`${instance}-c`);
  assert.deepEqual(listInstanceLeftovers(`${instance}-c`), []);
  assert.equal(listInstanceLeftovers(other).length, 1);
  await neighbour.close();
  removeNetwork(other);
});
