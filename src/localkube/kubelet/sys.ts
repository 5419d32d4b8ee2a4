// The few system calls Node has no API for: mounts, device nodes, extended attributes. Called by the kubelet only.
import { readFileSync } from 'node:fs';
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');
const mountCall = libc.func(
  'int mount(const char *source, const char *target, const char *type, ulong flags, const char *data)',
);
const umountCall = libc.func('int umount2(const char *target, int flags)');
const mknodCall = libc.func('int mknod(const char *path, uint mode, ulong dev)');
const setxattrCall = libc.func(
  'int setxattr(const char *path, const char *name, const char *value, ulong size, int flags)',
);

export const MS_BIND = 4096;
export const MS_REC = 16384;
export const MS_PRIVATE = 1 << 18;
const MNT_DETACH = 2;
const S_IFCHR = 0o020000;

/** A system call failed; `code` is the errno's name where Node knows it. */
export class SysError extends Error {
  readonly errno: number;
  constructor(call: string, target: string, errno: number) {
    super(`${call} ${target}: ${errnoName(errno)}`);
    this.name = 'SysError';
    this.errno = errno;
  }
}

function errnoName(errno: number): string {
  const codes: Readonly<Record<string, number>> = koffi.os.errno;
  return Object.keys(codes).find((name) => codes[name] === errno) ?? `errno ${errno}`;
}

function check(result: number, call: string, target: string): void {
  if (result !== 0) throw new SysError(call, target, koffi.errno());
}

export function mount(source: string, target: string, type: string, flags: number, data: string): void {
  check(mountCall(source, target, type, flags, data), 'mount', target);
}

/** Detaches at once, also when in use; nothing happens when `target` is not a mount. */
export function unmount(target: string): void {
  const result: number = umountCall(target, MNT_DETACH);
  if (result === 0) return;
  const errno = koffi.errno();
  const { EINVAL, ENOENT } = koffi.os.errno;
  if (errno !== EINVAL && errno !== ENOENT) throw new SysError('umount', target, errno);
}

/** An overlay whiteout: hides the lower layers' entry of that name. */
export function whiteout(path: string): void {
  check(mknodCall(path, S_IFCHR, 0), 'mknod', path);
}

/** Makes an overlay directory hide the lower layers' directory of that name. */
export function makeOpaque(path: string): void {
  check(setxattrCall(path, 'trusted.overlay.opaque', 'y', 1, 0), 'setxattr', path);
}

export interface MountPoint {
  readonly path: string;
  readonly type: string;
}

export function mountPoints(mountinfo: string = readFileSync('/proc/self/mountinfo', 'utf8')): readonly MountPoint[] {
  const out: MountPoint[] = [];
  for (const line of mountinfo.split('\n')) {
    const [before = '', after = ''] = line.split(' - ');
    const path = before.split(' ')[4];
    const type = after.split(' ')[0];
    if (path && type) out.push({ path: unescapeMount(path), type });
  }
  return out;
}

/** mountinfo writes space, tab, newline and backslash as octal. */
function unescapeMount(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
