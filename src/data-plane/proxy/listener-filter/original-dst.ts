// The address a captured connection was meant for: SO_ORIGINAL_DST by getsockopt(2). koffi is loaded at the first use,
// so that proxies without capture do not pay for it. Called by listeners with the original_dst filter.
import { createRequire } from 'node:module';
import type { SocketAddr } from '../config/address.ts';

const SOL_IP = 0;
const SOL_IPV6 = 41;
const SO_ORIGINAL_DST = 80;
const AF_INET = 2;
const AF_INET6 = 10;

type Getsockopt = (fd: number, level: number, name: number, value: Buffer, length: number[]) => number;

interface Koffi {
  load(path: string | null): { func(declaration: string): Getsockopt };
}

let cached: Getsockopt | undefined;

function getsockopt(): Getsockopt {
  if (!cached) {
    const koffi = createRequire(import.meta.url)('koffi') as Koffi;
    cached = koffi
      .load(null)
      .func('int getsockopt(int fd, int level, int name, _Out_ uint8_t *value, _Inout_ uint32_t *length)');
  }
  return cached;
}

/** Undefined when the connection was not redirected. */
export function originalDestination(fd: number, ipv6: boolean): SocketAddr | undefined {
  if (fd < 0) return undefined;
  const value = Buffer.alloc(28);
  const length = [value.length];
  if (getsockopt()(fd, ipv6 ? SOL_IPV6 : SOL_IP, SO_ORIGINAL_DST, value, length) !== 0) return undefined;
  return parseSockaddr(value);
}

/** struct sockaddr_in or sockaddr_in6 in host byte order (family) and network byte order (port). */
export function parseSockaddr(value: Buffer): SocketAddr | undefined {
  const family = value.readUInt16LE(0);
  const port = value.readUInt16BE(2);
  if (family === AF_INET) return { kind: 'ip', ip: [...value.subarray(4, 8)].join('.'), port };
  if (family !== AF_INET6) return undefined;
  const groups: string[] = [];
  for (let i = 8; i < 24; i += 2) groups.push(value.readUInt16BE(i).toString(16));
  return { kind: 'ip', ip: compress(groups), port };
}

/** The longest run of zero groups becomes `::`. */
function compress(groups: readonly string[]): string {
  let best = -1;
  let bestLength = 1;
  for (let i = 0; i < groups.length; i++) {
    let length = 0;
    while (groups[i + length] === '0') length += 1;
    if (length > bestLength) {
      best = i;
      bestLength = length;
    }
  }
  if (best < 0) return groups.join(':');
  return `${groups.slice(0, best).join(':')}::${groups.slice(best + bestLength).join(':')}`;
}
