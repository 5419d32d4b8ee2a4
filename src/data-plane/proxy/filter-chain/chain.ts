// One filter chain: who it is for, how it talks (plain or TLS) and what serves its connections. Built by listeners.
import { toBinary } from '@bufbuild/protobuf';
import {
  type FilterChain as FilterChainMessage,
  FilterChainSchema,
} from '#proto/envoy/config/listener/v3/listener_components_pb.js';
import { metadataOf } from '../cluster/endpoints.ts';
import type { Metadata } from '../cluster/host.ts';
import { join, millis, only } from '../config/fields.ts';
import { fingerprint } from '../config/fingerprint.ts';
import { TLS_HANDSHAKE_TIMEOUT_MS } from '../limits.ts';
import { type BuiltChain, buildNetworkFilters, type NetworkContext } from '../network-filter/registry.ts';
import { downstreamSocket } from '../transport-socket/factory.ts';
import type { DownstreamTls } from '../transport-socket/tls-accept.ts';
import type { SecretLease, SecretStore, TlsBuildContext } from '../transport-socket/tls-context.ts';
import { type ChainMatch, readChainMatch } from './match.ts';

export interface ChainContext extends NetworkContext, Omit<TlsBuildContext, 'secrets'> {
  readonly secrets: SecretStore;
}

export class FilterChain {
  readonly name: string;
  readonly fingerprint: string;
  readonly match: ChainMatch;
  readonly metadata: Metadata;
  readonly tls: DownstreamTls | undefined;
  readonly handshakeMs: number;
  readonly built: BuiltChain;
  readonly #secrets: SecretLease;

  constructor(message: FilterChainMessage, context: ChainContext, path: string) {
    only(FilterChainSchema, message, path, [
      'filter_chain_match',
      'filters',
      'metadata',
      'transport_socket',
      'transport_socket_connect_timeout',
      'name',
    ]);
    this.name = message.name;
    this.metadata = metadataOf(message.metadata);
    this.fingerprint = chainFingerprint(message);
    this.match = readChainMatch(message.filterChainMatch, join(path, 'filter_chain_match'));
    this.handshakeMs = millis(message.transportSocketConnectTimeout, TLS_HANDSHAKE_TIMEOUT_MS);
    const secrets = context.secrets.lease();
    this.#secrets = secrets;
    let tls: DownstreamTls | undefined;
    try {
      tls = downstreamSocket(message.transportSocket, { ...context, secrets }, join(path, 'transport_socket'));
      this.built = buildNetworkFilters(message.filters, context, path);
    } catch (error) {
      tls?.context.dispose();
      secrets.release();
      throw error;
    }
    this.tls = tls;
  }

  /** What a listener with this chain still waits for. */
  awaited(): string[] {
    const out = (this.tls?.context.awaited() ?? []).map((name) => `secret '${name}'`);
    for (const live of this.built.awaits) if (!live.ready()) out.push(live.name);
    return out;
  }

  listen(changed: () => void): () => void {
    const stops = [this.tls?.context.listen(changed), ...this.built.awaits.map((live) => live.listen(changed))];
    return () => {
      for (const stop of stops) stop?.();
    };
  }

  dispose(): void {
    this.tls?.context.dispose();
    this.#secrets.release();
    this.built.dispose();
  }
}

/** Equal for chains that need no update. */
export function chainFingerprint(message: FilterChainMessage): string {
  return fingerprint(toBinary(FilterChainSchema, message));
}
