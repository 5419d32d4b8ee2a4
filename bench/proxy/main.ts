// `npm run bench:proxy [-- SCENARIO… --runs N --seconds N --engines a,b --envoy PATH --sources]`: what a request, a byte and a
// connection cost in our proxy and in its peers, in one run. Prints a table; asserts nothing. No root needed.
import { mkdtempSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { makeCertificates } from './certificates.ts';
import { type Bench, type EngineName, versions } from './engines.ts';
import { nginxBackend } from './peers-config.ts';
import { accepting, freePort, LOAD_CORE, median, start, versionOf } from './process.ts';
import { clean, SCENARIOS, type Scenario, type Surroundings } from './scenarios.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    runs: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '4' },
    engines: { type: 'string' },
    envoy: { type: 'string', default: process.env.MELTEMI_ENVOY ?? 'envoy' },
    sources: { type: 'boolean', default: false },
  },
});

const unknown = positionals.filter((name) => !SCENARIOS.some((scenario) => scenario.name === name));
if (unknown.length > 0) {
  console.error(`unknown scenario ${unknown.join(', ')}; known: ${SCENARIOS.map((s) => s.name).join(', ')}`);
  process.exit(2);
}
const chosen = positionals.length > 0 ? SCENARIOS.filter((s) => positionals.includes(s.name)) : SCENARIOS;
const only = values.engines?.split(',') as EngineName[] | undefined;

const folder = mkdtempSync(path.join(tmpdir(), 'meltemi-bench-proxy-'));
const bench: Bench = { folder, envoy: values.envoy, sources: values.sources, counter: 0 };
const missing = [
  ['nginx', ['nginx', '-v'], 'nginx-light'],
  ['wrk', ['wrk', '--version'], 'wrk'],
  ['h2load', ['h2load', '--version'], 'nghttp2-client'],
  ['haproxy', ['haproxy', '-v'], 'haproxy'],
  ['iperf3', ['iperf3', '--version'], 'iperf3'],
  ['taskset', ['taskset', '--version'], 'util-linux'],
].filter(([, command]) => versionOf(command as string[]) === undefined);
if (missing.length > 0) {
  console.error(`missing: apt-get install ${missing.map(([, , pkg]) => pkg).join(' ')}`);
  process.exit(2);
}
if (versionOf([values.envoy, '--version']) === undefined) {
  console.error(`no Envoy at '${values.envoy}': ./meltemi engine add envoy, then --envoy PATH`);
  process.exit(2);
}

async function measure(s: Surroundings, scenario: Scenario): Promise<void> {
  const engines = scenario.engines.filter((engine) => !only || only.includes(engine));
  const samples = new Map<EngineName, number[]>(engines.map((engine) => [engine, []]));
  const notes = new Map<EngineName, string>();
  // Rounds over all engines, so that a slow minute of the machine hits them alike.
  for (let i = 0; i < Number(values.runs); i += 1)
    for (const engine of engines) {
      try {
        const measured = await scenario.run(s, engine);
        if (!measured) continue;
        samples.get(engine)!.push(measured.value);
        if (measured.note) notes.set(engine, measured.note);
      } catch (error) {
        notes.set(engine, `failed: ${error instanceof Error ? error.message.split('\n')[0] : error}`);
      }
    }
  const envoy = median(samples.get('envoy') ?? []);
  const goal = scenario.goal
    ? `goal ${scenario.more ? '≥' : '≤'} ${scenario.goal} × Envoy${scenario.name.startsWith('pair') ? ' (TLSSocket ≤ 0.55)' : ''}`
    : scenario.limit
      ? `goal ≤ ${scenario.limit} ${scenario.unit}`
      : '';
  console.log(`\n${scenario.name} (${scenario.unit}${scenario.more ? ', more is better' : ''}) ${goal}`);
  for (const engine of engines) {
    const own = samples.get(engine)!;
    const note = notes.get(engine) ?? '';
    if (own.length === 0) {
      console.log(`  ${engine.padEnd(16)} –  ${note}`);
      continue;
    }
    const value = median(own);
    const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
    const ratio = Number.isNaN(envoy) ? '' : `${(value / envoy).toFixed(2)} × Envoy`;
    const spread = `${Math.min(...own).toFixed(digits)}–${Math.max(...own).toFixed(digits)}`;
    console.log(`  ${engine.padEnd(16)} ${value.toFixed(digits).padStart(8)}  ${ratio.padEnd(14)} (${spread}) ${note}`);
  }
}

console.log(
  `${cpus()[0]?.model ?? 'unknown processor'}, ${cpus().length} cores; runs ${values.runs} × ${values.seconds} s`,
);
for (const line of versions(bench)) console.log(line);
const certificates = await makeCertificates(folder);
const port = await freePort();
const conf = path.join(folder, 'backend.conf');
writeFileSync(conf, nginxBackend(port, path.join(folder, 'backend.pid')));
const backend = start('backend', LOAD_CORE, ['nginx', '-p', folder, '-c', conf]);
try {
  await accepting(port);
  const s: Surroundings = { bench, certificates, backend: port, seconds: Number(values.seconds) };
  for (const scenario of chosen) await measure(s, scenario);
} finally {
  await backend.stop();
  clean(folder);
}
