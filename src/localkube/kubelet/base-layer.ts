// The layer between the host's root and a container's own files: hides what is not the system's programs (people's files,
// state, secrets) and holds the image's own files. Made once per image. Called when a container starts.
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import type { ImageEntry } from '../images/catalog.ts';
import { accountFiles } from './identity.ts';
import { makeOpaque, mountPoints, whiteout } from './sys.ts';

/** Top-level directories of the host that containers see; everything else there is hidden or made anew. */
const SHOWN = new Set(['bin', 'sbin', 'lib', 'lib32', 'lib64', 'libx32', 'usr', 'etc', 'opt']);
const MOUNT_TARGETS = ['proc', 'sys', 'dev'];
const FRESH: readonly (readonly [string, number])[] = [
  ['/root', 0o700],
  ['/home', 0o755],
  ['/tmp', 0o1777],
  ['/mnt', 0o755],
  ['/media', 0o755],
  ['/srv', 0o755],
  ['/run', 0o755],
  ['/run/lock', 0o1777],
  ['/var', 0o755],
  ['/var/tmp', 0o1777],
  ['/var/lib', 0o755],
  ['/var/cache', 0o755],
  ['/var/cache/meltemi', 0o755],
  ['/var/log', 0o755],
  ['/var/spool', 0o755],
  ['/var/mail', 0o755],
];
const SUDOERS = 'Defaults !requiretty, !fqdn\nroot ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n';
/** Directories of /etc deeper than this are not searched for secrets but hidden when unreadable for others. */
const MAX_ETC_DEPTH = 6;

/** Builds the layer at `dir` unless it is there. `home` and everything in it never shows. */
export function ensureBaseLayer(dir: string, image: ImageEntry, home: string): string {
  if (existsSync(dir)) return dir;
  const draft = `${dir}.new`;
  rmSync(draft, { recursive: true, force: true });
  mkdirSync(draft, { recursive: true, mode: 0o755 });
  chmodSync(draft, 0o755);
  hideTopLevel(draft);
  for (const [name, mode] of FRESH) makeDirectory(draft, name, mode, name.split('/').length === 2);
  symlinkSync('/run', path.join(draft, 'var/run'));
  symlinkSync('/run/lock', path.join(draft, 'var/lock'));
  makeDirectory(draft, '/etc', 0o755, false);
  hideUnreadable(draft, '/etc', 0);
  writeAccounts(draft, image);
  makeDirectory(draft, '/etc/sudoers.d', 0o755, true);
  put(draft, '/etc/sudoers', SUDOERS, 0o440);
  for (const [name, file] of Object.entries(image.files)) put(draft, name, file.content, file.mode);
  if (image.user) {
    makeDirectory(draft, image.user.home, 0o755, false);
    chownSync(path.join(draft, image.user.home), image.user.uid, image.user.gid);
  }
  hideHome(draft, home);
  renameSync(draft, dir);
  return dir;
}

function hideTopLevel(layer: string): void {
  for (const entry of readdirSync('/')) {
    const fresh = FRESH.some(([name]) => name === `/${entry}`);
    if (!SHOWN.has(entry) && !fresh && !MOUNT_TARGETS.includes(entry)) whiteout(path.join(layer, entry));
  }
}

function makeDirectory(layer: string, name: string, mode: number, opaque: boolean): void {
  const full = path.join(layer, name);
  mkdirSync(full, { recursive: true });
  chmodSync(full, mode);
  if (opaque) makeOpaque(full);
}

function put(layer: string, name: string, content: string, mode: number): void {
  const full = path.join(layer, name);
  mkdirSync(path.dirname(full), { recursive: true });
  rmSync(full, { force: true });
  writeFileSync(full, content, { mode });
  chmodSync(full, mode);
}

/** What only root may read on the host (keys, password files) is hidden, since containers run as root too. */
function hideUnreadable(layer: string, dir: string, depth: number): void {
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    const full = path.join(dir, entry.name);
    if (entry.isSymbolicLink()) continue;
    const { mode } = statSync(full);
    const open = entry.isDirectory() ? (mode & 0o005) === 0o005 : (mode & 0o004) !== 0;
    if (!open || depth === MAX_ETC_DEPTH) {
      mkdirSync(path.join(layer, dir), { recursive: true });
      whiteout(path.join(layer, full));
    } else if (entry.isDirectory()) hideUnreadable(layer, full, depth + 1);
  }
}

function writeAccounts(layer: string, image: ImageEntry): void {
  const files = accountFiles(readFileSync('/etc/passwd', 'utf8'), readFileSync('/etc/group', 'utf8'), image.user);
  put(layer, '/etc/passwd', files.passwd, 0o644);
  put(layer, '/etc/group', files.group, 0o644);
  put(layer, '/etc/shadow', files.shadow, 0o600);
}

/** Only needed when the home is inside a directory that shows. */
function hideHome(layer: string, home: string): void {
  const top = home.split('/')[1] ?? '';
  if (!SHOWN.has(top) || existsSync(path.join(layer, home))) return;
  mkdirSync(path.join(layer, path.dirname(home)), { recursive: true });
  whiteout(path.join(layer, home));
}

/** File systems of their own under the shown directories (a separate /usr) are not part of the overlay: bind them. */
export function shownSubmounts(): readonly string[] {
  return mountPoints()
    .filter(({ path: at, type }) => SHOWN.has(at.split('/')[1] ?? '') && type !== 'tmpfs' && type !== 'autofs')
    .map((point) => point.path)
    .sort();
}
