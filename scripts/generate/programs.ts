// generated/programs: each program as one ES module without types, which images/bin/lib/start and ./meltemi prefer to the
// sources while those are unchanged. Finding some 200 modules costs Node more time than running them. Called by main.ts.
import { execFileSync } from 'node:child_process';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';

interface Program {
  /** As images/bin/lib/start is given it; the launcher and the CLI know theirs. */
  readonly name: string;
  readonly main: string;
  /** Modules loaded later that the compile cache must be able to name: NAME-KEY. */
  readonly parts?: Readonly<Record<string, string>>;
}

const PROGRAMS: readonly Program[] = [
  {
    name: 'pilot-agent',
    main: 'src/data-plane/agent/main.ts',
    parts: { wiring: 'src/data-plane/agent/wiring.ts', commands: 'src/data-plane/agent/commands.ts' },
  },
  { name: 'envoy', main: 'src/data-plane/proxy/main.ts' },
  { name: 'pilot-discovery', main: 'src/control-plane/main.ts' },
  { name: 'meltemi', main: 'src/cli/main.ts' },
  { name: 'localkube', main: 'src/localkube/main.ts' },
  { name: 'istio-iptables', main: 'src/data-plane/capture/main.ts' },
  ...['catalog', 'httpbin', 'nginx', 'tcp-echo', 'webapp'].map((name) => ({ name, main: `images/apps/${name}.ts` })),
];

/** Packages with binaries find them beside themselves; grpc-js asks for the loader only in services that we do not offer. */
const EXTERNAL = ['koffi', '@lydell/node-pty', '@grpc/proto-loader'];

/** CommonJS packages ask for Node's modules with `require`, which an ES module does not have. */
const REQUIRE = `import { createRequire as requireFrom } from 'node:module'; const require = requireFrom(import.meta.url);`;

/** Throws when a program cannot be bundled. Makes nothing where the sources cannot be watched. */
export function generatePrograms(root: string, out: string): void {
  // Before they are read: a file that changes meanwhile makes the result stale.
  const fingerprint = execFileSync('sh', ['-c', '. "$root/images/bin/lib/fingerprint"'], {
    env: { PATH: process.env.PATH, root },
    encoding: 'utf8',
  });
  // A find without -printf lists nothing: changes would go unseen, so the sources are run.
  if (/ 0\s*$/.test(fingerprint)) return;
  mkdirSync(out, { recursive: true });
  for (const program of PROGRAMS) bundle(root, out, program);
  writeFileSync(path.join(out, 'fingerprint.new'), fingerprint, { mode: 0o644 });
  renameSync(path.join(out, 'fingerprint.new'), path.join(out, 'fingerprint'));
}

function bundle(root: string, out: string, { name, main, parts = {} }: Program): void {
  const entries = [[name, main], ...Object.entries(parts).map(([part, file]) => [`${name}-${part}`, file])];
  execFileSync(
    path.join(root, 'node_modules/@esbuild/linux-x64/bin/esbuild'),
    [
      ...entries.map(([entry, file]) => `${entry}=${file}`),
      '--bundle',
      // What is imported later stays apart: it costs no memory before.
      '--splitting',
      '--format=esm',
      '--platform=node',
      '--target=node26',
      `--outdir=${out}`,
      `--chunk-names=${name}-[hash]`,
      '--out-extension:.js=.mjs',
      // Comments cost memory (the source stays in it), and one beyond ASCII doubles that. Lines stay short for stack traces.
      '--minify-whitespace',
      '--line-limit=160',
      '--legal-comments=none',
      '--log-level=warning',
      `--banner:js=${REQUIRE}`,
      ...EXTERNAL.map((each) => `--external:${each}`),
    ],
    { cwd: root, stdio: 'inherit' },
  );
}
