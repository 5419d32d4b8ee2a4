// Traces as Envoy's admin interface prints them: envoy.data.tap.v3.TraceWrapper in JSON, with defaults. Called by the tap filter.
import type { SocketAddr } from '../config/address.ts';
import type { HeaderMap } from '../http/header-map.ts';

export interface TraceHeader {
  readonly key: string;
  readonly value: string;
  readonly raw_value: '';
}

/** Pseudo headers first. */
export function traceHeaders(
  pseudo: readonly (readonly [string, string])[],
  headers: HeaderMap | undefined,
): TraceHeader[] {
  const out = pseudo.map(([key, value]): TraceHeader => ({ key, value, raw_value: '' }));
  headers?.forEach((name, value) => {
    const key = name.toLowerCase();
    // HTTP/1's name of :authority.
    if (key !== 'host') out.push({ key, value: Buffer.from(value, 'latin1').toString(), raw_value: '' });
  });
  return out;
}

export function traceBody(bytes: Buffer, as: 'bytes' | 'string', truncated: boolean): object {
  return as === 'string'
    ? { as_string: bytes.toString(), truncated }
    : { as_bytes: bytes.toString('base64'), truncated };
}

export function traceAddress(address: SocketAddr): object {
  if (address.kind !== 'ip') return { pipe: { path: address.path, mode: 0 } };
  return {
    socket_address: {
      protocol: 'TCP',
      address: address.ip,
      port_value: address.port,
      resolver_name: '',
      ipv4_compat: false,
      network_namespace_filepath: '',
    },
  };
}

/** Protobuf's JSON, indented by one. */
export function traceText(trace: object): string {
  return `${JSON.stringify(trace, null, 1).replaceAll('<', '\\u003c').replaceAll('>', '\\u003e')}\n`;
}
