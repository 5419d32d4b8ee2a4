// Addresses without their port, whole or as the network of a prefix length: %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(24)%.
// Used by argument-operators.ts.
import { ipText, parseIp, type SocketAddr } from '../config/address.ts';
import { utf8Bytes } from '../http/header-map.ts';
import type { StreamInfo } from '../http/stream-info.ts';
import type { Operator } from './types.ts';

type Read = (info: StreamInfo) => SocketAddr | undefined;

/** As Envoy reads numbers: with spaces around and a sign; anything else is no prefix length and leaves the address whole. */
const PREFIX = /^\s*([+-]?\d{1,10})\s*$/;

export function addressOperator(read: Read): (context: { readonly argument: string | undefined }) => Operator {
  return ({ argument }) => {
    const length = PREFIX.exec(argument ?? '')?.[1];
    const bits = Number(length);
    if (length === undefined || Math.abs(bits) > 0x7fff_ffff) return (info) => addressWithoutPort(read(info));
    return (info) => network(read(info), bits);
  };
}

export function addressWithoutPort(address: SocketAddr | undefined): string | undefined {
  return address?.kind === 'ip' ? address.ip : address && utf8Bytes(address.path);
}

function network(address: SocketAddr | undefined, bits: number): string | undefined {
  if (address?.kind !== 'ip') return addressWithoutPort(address);
  const bytes = parseIp(address.ip);
  if (!bytes) return address.ip;
  // Envoy has no network of fewer than no bits.
  if (bits < 0) return '';
  const kept = Math.min(bits, bytes.length * 8);
  const masked = bytes.map((byte, i) => byte & (0xff00 >> Math.min(8, Math.max(0, kept - i * 8))));
  return `${ipText(masked)}/${kept}`;
}
