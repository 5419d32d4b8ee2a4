// Writes a PROXY protocol v2 header: source, destination, and one value of our own type. Called by the stock engine.
import type { IpPort } from './fabric.ts';

const SIGNATURE = Buffer.from([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]);
const VERSION_2_PROXY = 0x21;
const TCP_OVER_IPV4 = 0x11;

export function proxyHeader(
  source: IpPort,
  destination: IpPort,
  tlv: { readonly type: number; readonly value: string },
): Buffer {
  const value = Buffer.from(tlv.value);
  const out = Buffer.alloc(16 + 12 + 3 + value.length);
  SIGNATURE.copy(out);
  out[12] = VERSION_2_PROXY;
  out[13] = TCP_OVER_IPV4;
  out.writeUInt16BE(12 + 3 + value.length, 14);
  ipv4(source.ip).copy(out, 16);
  ipv4(destination.ip).copy(out, 20);
  out.writeUInt16BE(source.port, 24);
  out.writeUInt16BE(destination.port, 26);
  out[28] = tlv.type;
  out.writeUInt16BE(value.length, 29);
  value.copy(out, 31);
  return out;
}

function ipv4(text: string): Buffer {
  return Buffer.from(text.split('.').map(Number));
}
