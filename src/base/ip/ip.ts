// IP addresses and CIDR ranges as bytes. Called by the proxy's listeners, filter chains, clusters and by the policy engine.
import { SocketAddress } from 'node:net';

/** Bytes of an IPv4 (4) or IPv6 (16) address; undefined for anything else. IPv4-mapped IPv6 becomes IPv4. */
export function parseIp(text: string): Uint8Array | undefined {
  if (!text.includes(':')) return parseIpv4(text);
  const zone = text.indexOf('%');
  const bytes = parseIpv6(zone < 0 ? text : text.slice(0, zone));
  if (bytes && isMapped(bytes)) return bytes.slice(12);
  return bytes;
}

function parseIpv4(text: string): Uint8Array | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  const out = new Uint8Array(4);
  for (const [i, part] of parts.entries()) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined;
    out[i] = Number(part);
  }
  return out;
}

function parseIpv6(text: string): Uint8Array | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const head = groups(halves[0]!);
  const tail = halves.length === 2 ? groups(halves[1]!) : [];
  if (!head || !tail) return undefined;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  const all = [...head, ...new Array<number>(missing).fill(0), ...tail];
  const out = new Uint8Array(16);
  for (const [i, group] of all.entries()) {
    out[2 * i] = group >> 8;
    out[2 * i + 1] = group & 255;
  }
  return out;
}

function groups(text: string): number[] | undefined {
  if (text === '') return [];
  const out: number[] = [];
  const parts = text.split(':');
  for (const [i, part] of parts.entries()) {
    if (i === parts.length - 1 && part.includes('.')) {
      const v4 = parseIpv4(part);
      if (!v4) return undefined;
      out.push((v4[0]! << 8) | v4[1]!, (v4[2]! << 8) | v4[3]!);
    } else if (/^[0-9a-fA-F]{1,4}$/.test(part)) out.push(Number.parseInt(part, 16));
    else return undefined;
  }
  return out;
}

function isMapped(bytes: Uint8Array): boolean {
  for (let i = 0; i < 10; i++) if (bytes[i] !== 0) return false;
  return bytes[10] === 255 && bytes[11] === 255;
}

export function isLoopback(ip: string): boolean {
  const bytes = parseIp(ip);
  if (!bytes) return false;
  if (bytes.length === 4) return bytes[0] === 127;
  return bytes.every((byte, i) => byte === (i === 15 ? 1 : 0));
}

/** RFC 1918, loopback, link-local and unique-local addresses: what Envoy calls internal. */
export function isPrivate(ip: string): boolean {
  return PRIVATE.some((cidr) => cidrContains(cidr, ip));
}

export interface Cidr {
  readonly bytes: Uint8Array;
  readonly bits: number;
}

export function parseCidr(prefix: string, bits: number | undefined): Cidr | undefined {
  const bytes = parseIp(prefix);
  if (!bytes || (bits ?? 0) > bytes.length * 8) return undefined;
  return { bytes, bits: bits ?? 0 };
}

export function cidrContains(cidr: Cidr, ip: string): boolean {
  const bytes = parseIp(ip);
  return bytes !== undefined && cidrBytesMatch(cidr, bytes);
}

export function cidrBytesMatch(cidr: Cidr, bytes: Uint8Array): boolean {
  if (bytes.length !== cidr.bytes.length) return false;
  const whole = cidr.bits >> 3;
  for (let i = 0; i < whole; i++) if (bytes[i] !== cidr.bytes[i]) return false;
  const rest = cidr.bits & 7;
  if (rest === 0) return true;
  const mask = 0xff << (8 - rest);
  return ((bytes[whole]! ^ cidr.bytes[whole]!) & mask & 0xff) === 0;
}

const PRIVATE: readonly Cidr[] = (
  [
    ['10.0.0.0', 8],
    ['172.16.0.0', 12],
    ['192.168.0.0', 16],
    ['127.0.0.0', 8],
    ['::1', 128],
    ['fd00::', 8],
  ] as const
).map(([prefix, bits]) => parseCidr(prefix, bits)!);

/** A valid address as the C library prints it: small letters, the longest run of zeros left out, IPv4 within IPv6 with its dots. */
export function canonicalIp(text: string): string {
  return text.includes(':') ? new SocketAddress({ family: 'ipv6', address: text }).address : text;
}

export function ipText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  const groups = Array.from({ length: 8 }, (_, i) => ((bytes[2 * i]! << 8) | bytes[2 * i + 1]!).toString(16));
  return canonicalIp(groups.join(':'));
}
