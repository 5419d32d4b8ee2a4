// The four addresses a condition can ask for, as bytes. Called by expression.ts and keys.ts.
import { parseIp } from '../base/ip/ip.ts';
import type { EndPoint } from './facts.ts';

export type IpSide = 'source' | 'direct' | 'remote' | 'destination';

const MAX_PARSED = 4_096;
const parsed = new Map<string, Uint8Array | undefined>();

/** Bytes of an end point's address. Addresses repeat, so what was parsed is remembered, within bounds. */
export function ipBytes(end: EndPoint): Uint8Array | undefined {
  const { ip } = end;
  const known = parsed.get(ip);
  if (known !== undefined || parsed.has(ip)) return known;
  if (parsed.size >= MAX_PARSED) parsed.clear();
  const bytes = parseIp(ip);
  parsed.set(ip, bytes);
  return bytes;
}
