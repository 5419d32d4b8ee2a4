// The measurements: one function each, for one engine, one run. Called by main.ts.
import { spawn } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { CertificateFiles } from './certificates.ts';
import { type Bench, type EngineName, startEnvoyLike, startHttp, startTcp } from './engines.ts';
import { bootstrapOnly, type HttpShape, manyClusters, type TcpShape } from './envoy-config.ts';
import { accepting, freePort, LOAD_CORE, load, type Running, start } from './process.ts';

export interface Surroundings {
  readonly bench: Bench;
  readonly certificates: CertificateFiles;
  /** Port of the nginx that answers 1 KB. */
  readonly backend: number;
  readonly seconds: number;
}

/** `value` in `unit`; undefined: this engine does not do this job. */
export type Measured = { readonly value: number; readonly note?: string } | undefined;

export interface Scenario {
  readonly name: string;
  readonly unit: string;
  /** True where more is better. */
  readonly more?: boolean;
  /** Our value ÷ Envoy's that the project aims at. */
  readonly goal?: number;
  /** An absolute aim in `unit`. */
  readonly limit?: number;
  readonly engines: readonly EngineName[];
  run(s: Surroundings, engine: EngineName): Promise<Measured>;
}

const HTTP: readonly EngineName[] = ['meltemi', 'envoy', 'haproxy', 'nginx'];
const TLS: readonly EngineName[] = ['meltemi', 'meltemi-tlssocket', 'envoy', 'haproxy', 'nginx'];
const ENVOYS: readonly EngineName[] = ['meltemi', 'envoy'];
const TLS_ENVOYS: readonly EngineName[] = ['meltemi', 'meltemi-tlssocket', 'envoy'];

const client = path.join(import.meta.dirname, 'client.ts');
/** Our engine's code is compiled for speed within this time, s. */
const warm = 3;

async function wrk(port: number, seconds: number): Promise<number> {
  const out = await load(['wrk', '-t1', '-c32', `-d${seconds}s`, `http://127.0.0.1:${port}/`]);
  const bad = /Non-2xx or 3xx responses: (\d+)/.exec(out);
  if (bad) throw new Error(`wrk saw ${bad[1]} bad answers`);
  return Number(/(\d+) requests in/.exec(out)?.[1]);
}

async function h2load(port: number, seconds: number): Promise<number> {
  const out = await load([
    'h2load',
    '-c8',
    '-m32',
    '-t1',
    `-D${seconds}`,
    '--warm-up-time=0',
    `http://127.0.0.1:${port}/`,
  ]);
  const done = /requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed/.exec(out);
  if (!done || Number(done[5]) > 0) throw new Error(`h2load: ${out}`);
  return Number(done[4]);
}

async function run(
  command: 'connections' | 'paced',
  port: number,
  ...args: readonly string[]
): Promise<Record<string, number>> {
  return JSON.parse(await load([process.execPath, client, command, String(port), ...args])) as Record<string, number>;
}

/** CPU µs of `proxies` per unit that `work` reports. */
async function cost(proxies: readonly Running[], work: () => Promise<number>): Promise<number> {
  const before = proxies.reduce((sum, proxy) => sum + proxy.cpuUs(), 0);
  const done = await work();
  const used = proxies.reduce((sum, proxy) => sum + proxy.cpuUs(), 0) - before;
  return used / done;
}

async function stopAll(proxies: readonly (Running | undefined)[]): Promise<void> {
  await Promise.all(proxies.map((proxy) => proxy?.stop()));
}

async function hop(s: Surroundings, engine: EngineName, extra: Partial<HttpShape>, generator = wrk): Promise<Measured> {
  const port = await freePort();
  const proxy = await startHttp(s.bench, engine, { port, target: s.backend, ...extra });
  if (!proxy) return undefined;
  try {
    await generator(port, warm);
    return { value: await cost([proxy], () => generator(port, s.seconds)) };
  } finally {
    await stopAll([proxy]);
  }
}

interface Pair {
  readonly port: number;
  readonly proxies: readonly Running[];
}

async function httpPair(
  s: Surroundings,
  engine: EngineName,
  http2: boolean,
  sidecar: boolean,
): Promise<Pair | undefined> {
  const port = await freePort();
  const between = await freePort();
  const log = (side: string) =>
    sidecar
      ? { sidecar: { log: path.join(s.bench.folder, `${engine}-${side}.log`), metrics: engine !== 'envoy' } }
      : {};
  const server = await startHttp(s.bench, engine, {
    port: between,
    target: s.backend,
    downstreamTls: s.certificates,
    ...log('server'),
  });
  if (!server) return undefined;
  const front = await startHttp(s.bench, engine, {
    port,
    target: between,
    upstreamTls: s.certificates,
    upstreamHttp2: http2,
    ...log('client'),
  });
  if (!front) {
    await stopAll([server]);
    return undefined;
  }
  return { port, proxies: [front, server] };
}

async function pairCost(s: Surroundings, engine: EngineName, http2: boolean, sidecar: boolean): Promise<Measured> {
  const pair = await httpPair(s, engine, http2, sidecar);
  if (!pair) return undefined;
  try {
    await wrk(pair.port, warm);
    return { value: await cost(pair.proxies, () => wrk(pair.port, s.seconds)) };
  } finally {
    await stopAll(pair.proxies);
  }
}

async function tcp(s: Surroundings, engine: EngineName, tls: boolean): Promise<Measured> {
  const target = await freePort();
  const sink = start('iperf3', LOAD_CORE, ['iperf3', '-s', '-p', String(target), '-B', '127.0.0.1']);
  const proxies: Running[] = [];
  try {
    await accepting(target);
    const port = await freePort();
    const chain: TcpShape[] = [];
    if (tls) {
      const between = await freePort();
      chain.push({ port: between, target, downstreamTls: s.certificates });
      chain.push({ port, target: between, upstreamTls: s.certificates });
    } else chain.push({ port, target });
    for (const shape of chain) {
      const proxy = await startTcp(s.bench, engine, shape);
      if (!proxy) return undefined;
      proxies.push(proxy);
    }
    const send = async (seconds: number): Promise<number> => {
      const command = ['iperf3', '-J', '-c', '127.0.0.1', '-p', String(port), '-P', '4', '-t', String(seconds)];
      // The server takes the look whether it accepts for a client, and is busy until it has seen it go.
      for (let tries = 0; ; tries += 1) {
        const out = JSON.parse(await load(command, [0, 1])) as {
          end: { sum_received?: { bytes: number } };
          error?: string;
        };
        if (out.end.sum_received) return out.end.sum_received.bytes / 1e9;
        if (tries === 20) throw new Error(`iperf3: ${out.error}`);
        await new Promise((resolve) => setTimeout(resolve, 250));
      }
    };
    await send(warm);
    const perGb = await cost(proxies, () => send(s.seconds));
    return { value: 1e6 / perGb };
  } finally {
    await stopAll([...proxies, sink]);
  }
}

async function connectionRate(
  s: Surroundings,
  engine: EngineName,
  mode: 'plain' | 'full' | 'resumed',
): Promise<Measured> {
  const port = await freePort();
  const tls = mode === 'plain' ? {} : { downstreamTls: s.certificates };
  const proxy = await startHttp(s.bench, engine, { port, target: s.backend, direct: true, ...tls });
  if (!proxy) return undefined;
  const files = path.join(s.bench.folder, 'client.json');
  writeFileSync(files, JSON.stringify(s.certificates));
  const args = [mode === 'plain' ? '-' : files, mode === 'resumed' ? 'resume' : 'full'];
  try {
    await run('connections', port, String(warm), ...args);
    let share = 0;
    const us = await cost([proxy], async () => {
      const result = await run('connections', port, String(s.seconds), ...args);
      share = (result.resumed ?? 0) / result.made!;
      return result.made!;
    });
    return { value: 1e6 / us, ...(mode === 'resumed' ? { note: `${Math.round(share * 100)} % resumed` } : {}) };
  } finally {
    await stopAll([proxy]);
  }
}

/** Compiling shares the one core with both proxies, so a cold pair shows its compiler: measured apart. */
async function latency(
  s: Surroundings,
  engine: EngineName,
  quantile: 'p50' | 'p99',
  start: 'warm' | 'cold',
): Promise<Measured> {
  const pair = await httpPair(s, engine, false, false);
  if (!pair) return undefined;
  try {
    if (start === 'warm') await wrk(pair.port, warm);
    const direct = await run('paced', s.backend, '3', '200');
    const through = await run('paced', pair.port, '5', '200');
    return { value: through[quantile]! - direct[quantile]! };
  } finally {
    await stopAll(pair.proxies);
  }
}

/** Longer than the proxy waits, at most, for a stretch of rest in which it gives back what its start left behind. */
const SETTLE_MS = 6_000;
const settle = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, SETTLE_MS));

async function memory(s: Surroundings, engine: EngineName, clusters: number): Promise<Measured> {
  const port = await freePort();
  const proxy = startEnvoyLike(s.bench, engine, clusters === 0 ? bootstrapOnly(port) : manyClusters(port, clusters));
  try {
    await accepting(port);
    await settle();
    return { value: proxy.rss() / 2 ** 20 };
  } finally {
    await proxy.stop();
  }
}

async function startTime(s: Surroundings, engine: EngineName, clusters: number): Promise<Measured> {
  const port = await freePort();
  const proxy = startEnvoyLike(s.bench, engine, manyClusters(port, clusters));
  try {
    return { value: (await accepting(port)) / 1000 };
  } finally {
    await proxy.stop();
  }
}

async function idleConnection(s: Surroundings, engine: EngineName, tls: boolean): Promise<Measured> {
  const port = await freePort();
  const count = tls ? 1_000 : 4_000;
  const files = path.join(s.bench.folder, 'client.json');
  writeFileSync(files, JSON.stringify(s.certificates));
  const proxy = await startHttp(s.bench, engine, {
    port,
    target: s.backend,
    direct: true,
    ...(tls ? { downstreamTls: s.certificates } : {}),
  });
  if (!proxy) return undefined;
  try {
    // The first connections pay for code and tables.
    const standing = async (many: number): Promise<() => Promise<void>> => {
      const holder = spawn(
        'taskset',
        ['-c', String(LOAD_CORE), process.execPath, client, 'idle', String(port), String(many), tls ? files : '-'],
        {
          stdio: ['pipe', 'pipe', 'inherit'],
        },
      );
      await new Promise((resolve) => holder.stdout.once('data', resolve));
      return async () => {
        holder.stdin.end();
        await new Promise((resolve) => holder.once('exit', resolve));
      };
    };
    await (await standing(100))();
    const before = proxy.rss();
    const release = await standing(count);
    await settle();
    const value = (proxy.rss() - before) / count / 1024;
    await release();
    return { value };
  } finally {
    await proxy.stop();
  }
}

export const SCENARIOS: readonly Scenario[] = [
  { name: 'h1', unit: 'µs/request', goal: 0.5, engines: HTTP, run: (s, e) => hop(s, e, {}) },
  {
    name: 'h1-sidecar',
    unit: 'µs/request',
    goal: 0.5,
    engines: ENVOYS,
    run: (s, e) => hop(s, e, { sidecar: { log: path.join(s.bench.folder, `${e}.log`), metrics: e !== 'envoy' } }),
  },
  {
    name: 'h2-downstream',
    unit: 'µs/request',
    goal: 0.4,
    engines: ['meltemi', 'envoy', 'haproxy'],
    run: (s, e) => hop(s, e, {}, h2load),
  },
  { name: 'pair-h1', unit: 'µs/request', goal: 0.4, engines: TLS, run: (s, e) => pairCost(s, e, false, false) },
  { name: 'pair-h2', unit: 'µs/request', goal: 0.4, engines: TLS, run: (s, e) => pairCost(s, e, true, false) },
  {
    name: 'pair-h1-sidecar',
    unit: 'µs/request',
    goal: 0.4,
    engines: TLS_ENVOYS,
    run: (s, e) => pairCost(s, e, false, true),
  },
  {
    name: 'tcp',
    unit: 'GB/CPU-s',
    more: true,
    goal: 1.5,
    engines: ['meltemi', 'envoy', 'haproxy'],
    run: (s, e) => tcp(s, e, false),
  },
  {
    name: 'tcp-pair',
    unit: 'GB/CPU-s',
    more: true,
    goal: 0.7,
    engines: [...TLS_ENVOYS, 'haproxy'],
    run: (s, e) => tcp(s, e, true),
  },
  { name: 'connections', unit: '1/CPU-s', more: true, engines: HTTP, run: (s, e) => connectionRate(s, e, 'plain') },
  {
    name: 'connections-mtls',
    unit: '1/CPU-s',
    more: true,
    goal: 0.7,
    engines: TLS,
    run: (s, e) => connectionRate(s, e, 'full'),
  },
  {
    name: 'connections-resumed',
    unit: '1/CPU-s',
    more: true,
    goal: 1,
    engines: TLS,
    run: (s, e) => connectionRate(s, e, 'resumed'),
  },
  { name: 'latency-p50', unit: 'ms added', goal: 1, engines: TLS_ENVOYS, run: (s, e) => latency(s, e, 'p50', 'warm') },
  { name: 'latency-p99', unit: 'ms added', goal: 1, engines: TLS_ENVOYS, run: (s, e) => latency(s, e, 'p99', 'warm') },
  { name: 'latency-cold-p99', unit: 'ms added', engines: ENVOYS, run: (s, e) => latency(s, e, 'p99', 'cold') },
  { name: 'memory', unit: 'MB', limit: 65, engines: ENVOYS, run: (s, e) => memory(s, e, 0) },
  { name: 'memory-1000', unit: 'MB', limit: 110, engines: ENVOYS, run: (s, e) => memory(s, e, 1_000) },
  { name: 'start-1000', unit: 's', limit: 1, engines: ENVOYS, run: (s, e) => startTime(s, e, 1_000) },
  { name: 'idle-plain', unit: 'KB', limit: 8, engines: ENVOYS, run: (s, e) => idleConnection(s, e, false) },
  { name: 'idle-mtls', unit: 'KB', limit: 64, engines: TLS_ENVOYS, run: (s, e) => idleConnection(s, e, true) },
];

/** Removes what runs left: logs grow fast. */
export function clean(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
}
