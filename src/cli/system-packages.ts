// The system programs Meltemi runs, the Debian package each comes from, and why. On Debian and Ubuntu as root what is
// missing is installed (and said); elsewhere the user is told exactly what to install.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import path from 'node:path';
import { type Context, UserError } from './command.ts';

interface SystemPackage {
  readonly name: string;
  /** Programs that prove it is there. */
  readonly programs: readonly string[];
  readonly why: string;
}

export const CLUSTER_PACKAGES: readonly SystemPackage[] = [
  { name: 'runc', programs: ['runc'], why: 'runs the containers of the embedded cluster' },
  { name: 'iproute2', programs: ['ip', 'ss'], why: 'makes network namespaces and veth pairs' },
  { name: 'nftables', programs: ['nft'], why: "translates Service addresses in the node's namespace" },
  { name: 'iptables', programs: ['iptables', 'iptables-restore'], why: 'captures the traffic of a pod with a sidecar' },
];

export const LAB_PACKAGES: readonly SystemPackage[] = [
  { name: 'curl', programs: ['curl'], why: 'the client of the labs' },
  { name: 'openssl', programs: ['openssl'], why: 'shows the certificate on the wire' },
  { name: 'tcpdump', programs: ['tcpdump'], why: 'shows plaintext and TLS on the wire' },
  { name: 'procps', programs: ['ps'], why: 'lists the processes of a sidecar' },
  { name: 'sudo', programs: ['sudo'], why: "lets the sidecar's user capture packets in the privileged lab" },
];

/** Debian's kubectl is old (1.20) but works; one that is already there is kept. */
export const KUBECTL_PACKAGE: SystemPackage = {
  name: 'kubernetes-client',
  programs: ['kubectl'],
  why: 'kubectl, to drive the cluster as any other',
};

const SEARCH = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

export function findProgram(name: string, pathVariable: string | undefined): string | undefined {
  for (const dir of [...(pathVariable ?? '').split(':').filter((d) => d !== ''), ...SEARCH]) {
    const file = path.join(dir, name);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      // Not here: the next directory.
    }
  }
  return undefined;
}

export function missingPackages(context: Context, wanted: readonly SystemPackage[]): readonly SystemPackage[] {
  return wanted.filter((pkg) => pkg.programs.some((program) => !findProgram(program, context.env.PATH)));
}

/** Installs what is missing, or throws a {@link UserError} that says what to install. */
export function ensurePackages(context: Context, wanted: readonly SystemPackage[]): void {
  const missing = missingPackages(context, wanted);
  if (missing.length === 0) return;
  const list = missing.map((pkg) => `  ${pkg.name.padEnd(18)} ${pkg.why}`).join('\n');
  const names = missing.map((pkg) => pkg.name);
  const byHand = `apt-get install --no-install-recommends ${names.join(' ')}`;
  if (!isDebianLike() || !findProgram('apt-get', context.env.PATH)) {
    throw new UserError(
      `These programs are missing: ${missing.flatMap((pkg) => pkg.programs).join(', ')}.\n${list}\n` +
        "Install them with your system's package manager (the names above are Debian's) and run this again.",
    );
  }
  if (context.uid !== 0 || context.env.MELTEMI_NO_INSTALL !== undefined)
    throw new UserError(`These Debian packages are missing:\n${list}\nAs root: ${byHand}`);
  context.terminal.err(`Installing Debian packages that are missing:\n${list}\n`);
  const done = context.terminal.progress(`apt-get install ${names.join(' ')}`);
  const env = { ...context.env, DEBIAN_FRONTEND: 'noninteractive' };
  const apt = (args: readonly string[]) => spawnSync('apt-get', args, { env, encoding: 'utf8' });
  const install = ['install', '-y', '-qq', '--no-install-recommends', ...names];
  let run = apt(install);
  if (run.status !== 0) {
    // A fresh machine has no package lists yet.
    apt(['update', '-qq']);
    run = apt(install);
  }
  done({ ok: run.status === 0 });
  if (run.status !== 0)
    throw new UserError(`apt-get failed:\n${(run.stderr || run.stdout).trim()}\nMend that, then: ${byHand}`);
  const still = missingPackages(context, wanted);
  if (still.length > 0)
    throw new UserError(`${still.map((p) => p.name).join(', ')} installed, but its programs are not found in PATH.`);
}

function isDebianLike(): boolean {
  try {
    return /^ID(_LIKE)?=.*\b(debian|ubuntu)\b/m.test(readFileSync('/etc/os-release', 'utf8'));
  } catch {
    return false;
  }
}

export function requireRoot(context: Context, what: string): void {
  if (context.uid !== 0)
    throw new UserError(`${what} needs root: it makes network namespaces, mounts and containers. Run it with sudo.`);
}
