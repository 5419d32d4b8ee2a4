// Envoy's Address and CidrRange messages. Called by listeners, filter chains and clusters.
import type { Address, CidrRange } from '#proto/envoy/config/core/v3/address_pb.js';
import { type Cidr, parseCidr, parseIp } from '../../../base/ip/ip.ts';
import { ConfigError, join } from './fields.ts';

export {
  type Cidr,
  canonicalIp,
  cidrContains,
  ipText,
  isLoopback,
  isPrivate,
  parseCidr,
  parseIp,
} from '../../../base/ip/ip.ts';

/** Where a socket is or goes. A pipe has no port. */
export type SocketAddr =
  | { readonly kind: 'ip'; readonly ip: string; readonly port: number }
  | { readonly kind: 'pipe'; readonly path: string };

export function addressText(address: SocketAddr | undefined): string {
  if (!address) return '-';
  if (address.kind === 'pipe') return address.path;
  return ipPort(address.ip, address.port);
}

export function ipPort(ip: string, port: number): string {
  return ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;
}

export function cidrOf(range: CidrRange, path: string): Cidr {
  const cidr = parseCidr(range.addressPrefix, range.prefixLen);
  if (!cidr) throw new ConfigError(path, `'${range.addressPrefix}/${range.prefixLen ?? 0}' is not a CIDR range`);
  return cidr;
}

/** Envoy's Address as a SocketAddr; host names are allowed only where `allowName` is true (DNS clusters). */
export function addressOf(address: Address | undefined, path: string, allowName = false): SocketAddr {
  const kind = address?.address;
  if (kind?.case === 'pipe') return { kind: 'pipe', path: kind.value.path };
  if (kind?.case !== 'socketAddress')
    throw new ConfigError(path, `address must be a socket_address or a pipe, got ${kind?.case ?? 'nothing'}`);
  const socket = kind.value;
  if (socket.protocol !== 0) throw new ConfigError(join(path, 'protocol'), 'only TCP is supported');
  if (socket.resolverName !== '') throw new ConfigError(join(path, 'resolver_name'), 'is not supported');
  if (socket.portSpecifier.case !== 'portValue') throw new ConfigError(join(path, 'port_value'), 'value is required');
  if (socket.portSpecifier.value > 65_535) throw new ConfigError(join(path, 'port_value'), 'must be at most 65535');
  if (!allowName && !parseIp(socket.address))
    throw new ConfigError(
      path,
      `malformed IP address: ${socket.address}. Consider setting resolver_name or setting cluster type to 'STRICT_DNS' or 'LOGICAL_DNS'`,
    );
  return { kind: 'ip', ip: socket.address, port: socket.portSpecifier.value };
}
