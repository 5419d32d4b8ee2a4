// The few Linux system calls about network namespaces that Node lacks, through koffi.
// Called by localkube's network and by root tests; everything is synchronous on purpose.
import { closeSync, mkdirSync, openSync, unlinkSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import koffi from 'koffi';

const CLONE_NEWNET = 0x40000000;
const MS_BIND = 4096;
const MS_REC = 16384;
const MS_SHARED = 1 << 20;
const MNT_DETACH = 2;
export const AF_INET = 2;
export const AF_NETLINK = 16;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;
export const MSG_DONTWAIT = 0x40;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;

/** Where `ip netns` keeps the names of namespaces. */
export const NETNS_DIR = '/run/netns';
const THIS_NETNS = '/proc/thread-self/ns/net';

/** A system call that failed. `code` is the errno name: EPERM, EADDRINUSE … */
export class SyscallError extends Error {
  readonly code: string;
  readonly errno: number;
  constructor(what: string, errno: number) {
    const code = getSystemErrorName(-errno);
    super(`${what}: ${code}`);
    this.name = 'SyscallError';
    this.code = code;
    this.errno = errno;
  }
}

interface Libc {
  setns(fd: number, type: number): number;
  unshare(flags: number): number;
  mount(source: string, target: string, type: string, flags: number, data: null): number;
  umount2(target: string, flags: number): number;
  socket(family: number, type: number, protocol: number): number;
  setsockopt(fd: number, level: number, name: number, value: Buffer, length: number): number;
  bind(fd: number, address: Buffer, length: number): number;
  send(fd: number, data: Buffer, length: number, flags: number): number;
  recv(fd: number, data: Buffer, length: number, flags: number): number;
  if_nametoindex(name: string): number;
}

let loaded: Libc | undefined;

function libc(): Libc {
  if (loaded) return loaded;
  const lib = koffi.load('libc.so.6');
  loaded = {
    setns: lib.func('int setns(int, int)'),
    unshare: lib.func('int unshare(int)'),
    mount: lib.func('int mount(const char *, const char *, const char *, unsigned long, void *)'),
    umount2: lib.func('int umount2(const char *, int)'),
    socket: lib.func('int socket(int, int, int)'),
    setsockopt: lib.func('int setsockopt(int, int, int, void *, uint32_t)'),
    bind: lib.func('int bind(int, void *, uint32_t)'),
    send: lib.func('int64_t send(int, void *, uint64_t, int)'),
    recv: lib.func('int64_t recv(int, _Out_ void *, uint64_t, int)'),
    if_nametoindex: lib.func('uint32_t if_nametoindex(const char *)'),
  };
  return loaded;
}

function check(result: number, what: string): number {
  if (result < 0) throw new SyscallError(what, koffi.errno());
  return result;
}

/** The namespace this thread belongs to, opened before it ever leaves it. */
let homeFd: number | undefined;

/**
 * Runs `run` with this thread inside the namespace of `fd`, and comes back before it returns, also when `run` throws.
 * `run` must be synchronous. Children spawned and sockets made within stay in that namespace.
 */
export function inNetns<T>(fd: number, run: () => T): T {
  homeFd ??= openSync(THIS_NETNS, 'r');
  check(libc().setns(fd, CLONE_NEWNET), 'entering a network namespace (root is needed)');
  try {
    return run();
  } finally {
    goHome(homeFd);
  }
}

function goHome(fd: number): void {
  // A process that stays in a pod's namespace would do host work in the wrong place: nothing is safer than to end.
  if (libc().setns(fd, CLONE_NEWNET) < 0) process.abort();
}

/** Makes a namespace with a name that `ip netns` knows and returns its path. Rejects with EEXIST when the name is taken. */
export function createNetns(name: string): string {
  prepareNetnsDir();
  const path = `${NETNS_DIR}/${name}`;
  closeSync(openSync(path, 'wx', 0o444));
  homeFd ??= openSync(THIS_NETNS, 'r');
  try {
    check(libc().unshare(CLONE_NEWNET), 'making a network namespace (root is needed)');
    try {
      check(libc().mount(THIS_NETNS, path, 'none', MS_BIND, null), `mounting ${path}`);
    } finally {
      goHome(homeFd);
    }
  } catch (error) {
    unlinkSync(path);
    throw error;
  }
  return path;
}

let netnsDirReady = false;

/** As `ip netns add` does: a shared mount, so that an unmount reaches every mount namespace. */
function prepareNetnsDir(): void {
  if (netnsDirReady) return;
  mkdirSync(NETNS_DIR, { recursive: true, mode: 0o755 });
  if (libc().mount('', NETNS_DIR, 'none', MS_SHARED | MS_REC, null) < 0) {
    check(libc().mount(NETNS_DIR, NETNS_DIR, 'none', MS_BIND | MS_REC, null), `mounting ${NETNS_DIR} (root is needed)`);
    check(libc().mount('', NETNS_DIR, 'none', MS_SHARED | MS_REC, null), `sharing ${NETNS_DIR}`);
  }
  netnsDirReady = true;
}

/** Takes the name away; the namespace goes when its last process and socket do. A name that is not there is no error. */
export function removeNetns(name: string): void {
  const path = `${NETNS_DIR}/${name}`;
  // EINVAL: the file was never mounted on (a crash between the two steps).
  libc().umount2(path, MNT_DETACH);
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

/** A socket's descriptor, made in the current namespace; close-on-exec. The caller owns it. */
export function openSocket(family: number, type: number, protocol = 0): number {
  return check(libc().socket(family, type | SOCK_CLOEXEC, protocol), 'making a socket');
}

/** Binds an IPv4 socket. */
export function bindIpv4(fd: number, ip: string, port: number, options: { readonly reuseAddress: boolean }): void {
  if (options.reuseAddress) {
    const on = Buffer.from(new Int32Array([1]).buffer);
    check(libc().setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, on, on.length), 'setting SO_REUSEADDR');
  }
  const address = Buffer.alloc(16);
  address.writeUInt16LE(AF_INET, 0);
  address.writeUInt16BE(port, 2);
  address.set(ipv4Bytes(ip), 4);
  check(libc().bind(fd, address, address.length), `binding ${ip}:${port}`);
}

export function sendTo(fd: number, data: Buffer): void {
  check(libc().send(fd, data, data.length, 0), 'sending on a socket');
}

/** What has arrived, at most `limit` bytes; never waits (EAGAIN when there is nothing). */
export function receiveNow(fd: number, limit: number): Buffer {
  const buffer = Buffer.alloc(limit);
  const n = check(Number(libc().recv(fd, buffer, limit, MSG_DONTWAIT)), 'receiving on a socket');
  return buffer.subarray(0, n);
}

/** The index of an interface of the current namespace, or undefined. */
export function interfaceIndex(name: string): number | undefined {
  const index = libc().if_nametoindex(name);
  return index === 0 ? undefined : index;
}

/** Four bytes of a dotted IPv4 address. Throws on anything else. */
export function ipv4Bytes(ip: string): Uint8Array {
  const parts = ip.split('.');
  const bytes = Uint8Array.from(parts, Number);
  if (parts.length !== 4 || parts.some((part, i) => !/^\d{1,3}$/.test(part) || Number(part) !== bytes[i]))
    throw new Error(`"${ip}" is not an IPv4 address`);
  return bytes;
}
