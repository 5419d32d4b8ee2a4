// istio.alpn: tells the upstream TLS handshake which protocol the request speaks, so that the server can match on it.
import {
  type FilterConfig,
  FilterConfig_AlpnOverrideSchema,
  FilterConfigSchema,
  FilterConfig_Protocol as Protocol,
} from '#proto/istio/filters_pb.js';
import { join, only } from '../config/fields.ts';
import type { HttpFilter } from './filter.ts';
import type { ClusterFinder } from './router.ts';

export function createAlpnFilter(
  message: FilterConfig,
  context: { readonly name: string; readonly clusters: ClusterFinder },
  path: string,
): HttpFilter {
  only(FilterConfigSchema, message, path, ['alpn_override']);
  const byProtocol = new Map<string, readonly string[]>();
  for (const [i, entry] of message.alpnOverride.entries()) {
    only(FilterConfig_AlpnOverrideSchema, entry, join(path, `alpn_override[${i}]`), [
      'upstream_protocol',
      'alpn_override',
    ]);
    const protocol =
      entry.upstreamProtocol === Protocol.HTTP10
        ? 'HTTP/1.0'
        : entry.upstreamProtocol === Protocol.HTTP11
          ? 'HTTP/1.1'
          : 'HTTP/2';
    byProtocol.set(protocol, entry.alpnOverride);
  }
  return {
    name: context.name,
    onRequest(stream) {
      // Asking for the route makes it choose its cluster.
      if (!stream.route || !stream.choice) return 'continue';
      const cluster = context.clusters.find(stream.choice.name);
      const speaks = cluster?.settings.http.protocol;
      const http2 = speaks === 'http2' || (speaks === 'downstream' && stream.protocol === 'HTTP/2');
      const alpn = byProtocol.get(http2 ? 'HTTP/2' : 'HTTP/1.1');
      if (!alpn || alpn.length === 0) return 'continue';
      if (cluster?.metadata.istio?.alpn_override === 'false') return 'continue';
      stream.upstreamAlpn = alpn;
      return 'continue';
    },
  };
}
