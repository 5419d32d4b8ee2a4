// A bound socket with options that Node does not set (SO_*, IP_TRANSPARENT, IP_FREEBIND): made by system calls and handed to
// net.Server as a descriptor. koffi is loaded only when somebody asks for such options. Called by the listener manager and by dial.ts.
import { createRequire } from 'node:module';
import type { SocketAddr } from '../config/address.ts';
import { parseIp } from '../config/address.ts';
import type { RawOption } from './socket-settings.ts';

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_REUSEPORT = 15;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;

interface Calls {
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, address: Buffer, length: number): number;
  setsockopt(fd: number, level: number, name: number, value: Buffer, length: number): number;
  close(fd: number): number;
  errno(): number;
}

let cached: Calls | undefined;

function calls(): Calls {
  if (cached) return cached;
  const koffi = createRequire(import.meta.url)('koffi') as {
    load(path: null): { func(declaration: string): never };
    errno(): number;
  };
  const libc = koffi.load(null);
  cached = {
    socket: libc.func('int socket(int domain, int type, int protocol)'),
    bind: libc.func('int bind(int fd, const uint8_t *address, uint32_t length)'),
    setsockopt: libc.func('int setsockopt(int fd, int level, int name, const uint8_t *value, uint32_t length)'),
    close: libc.func('int close(int fd)'),
    errno: () => koffi.errno(),
  };
  return cached;
}

/** Sets one option; throws with the option's numbers. */
export function setOption(fd: number, option: Pick<RawOption, 'level' | 'name' | 'value'>): void {
  const value = typeof option.value === 'number' ? int(option.value) : Buffer.from(option.value);
  if (calls().setsockopt(fd, option.level, option.name, value, value.length) !== 0)
    throw new Error(`setting socket option (${option.level}, ${option.name}) failed: errno ${calls().errno()}`);
}

/** A bound descriptor that does not listen yet. Throws with the reason. */
export function boundSocket(
  address: Extract<SocketAddr, { kind: 'ip' }>,
  options: readonly RawOption[],
  how: { readonly reusePort: boolean; readonly ipv4Compat: boolean },
): number {
  const ip = parseIp(address.ip);
  if (!ip) throw new Error(`malformed IP address: ${address.ip}`);
  const ipv6 = address.ip.includes(':');
  const { socket, bind, close, errno } = calls();
  const fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) throw new Error(`cannot make a socket: errno ${errno()}`);
  try {
    setOption(fd, { level: SOL_SOCKET, name: SO_REUSEADDR, value: 1 });
    if (how.reusePort) setOption(fd, { level: SOL_SOCKET, name: SO_REUSEPORT, value: 1 });
    if (ipv6) setOption(fd, { level: IPPROTO_IPV6, name: IPV6_V6ONLY, value: how.ipv4Compat ? 0 : 1 });
    for (const option of options) if (option.beforeBind) setOption(fd, option);
    const where = sockaddr(ip, address.port, ipv6);
    if (bind(fd, where, where.length) !== 0) throw new Error(`bind failed: errno ${errno()}`);
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  }
}

function int(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value | 0);
  return bytes;
}

function sockaddr(ip: Uint8Array, port: number, ipv6: boolean): Buffer {
  const out = Buffer.alloc(ipv6 ? 28 : 16);
  out.writeUInt16LE(ipv6 ? AF_INET6 : AF_INET, 0);
  out.writeUInt16BE(port, 2);
  if (!ipv6) out.set(ip, 4);
  else if (ip.length === 16) out.set(ip, 8);
  // An IPv4 address in an IPv6 one.
  else out.set([0xff, 0xff, ...ip], 18);
  return out;
}
