// Secrets: static ones of the bootstrap and those of SDS, one StreamSecrets stream a name (as Envoy does). Gives TLS
// contexts live values; a bad answer is refused and the last good secret stays.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { Node } from '#proto/envoy/config/core/v3/base_pb.js';
import { type Secret, SecretSchema } from '#proto/envoy/extensions/transport_sockets/tls/v3/secret_pb.js';
import { DiscoveryRequestSchema, DiscoveryResponseSchema } from '#proto/envoy/service/discovery/v3/discovery_pb.js';
import { createBackoff } from '../../../base/runtime/backoff.ts';
import type { Clock } from '../../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../../base/runtime/log.ts';
import type { SocketAddr } from '../config/address.ts';
import { openAny } from '../config/any.ts';
import { ConfigError, join, millis, only } from '../config/fields.ts';
import { DEFAULT_INITIAL_FETCH_MS, XDS_BACKOFF_BASE_MS, XDS_BACKOFF_MAX_MS } from '../limits.ts';
import type { StatsStore } from '../stats/stats.ts';
import {
  type CertificateMaterial,
  certificateMaterial,
  type DataReader,
  type Live,
  type TrustMaterial,
  trustMaterial,
} from '../transport-socket/secrets.ts';
import type { SdsRef, SecretProvider } from '../transport-socket/tls-context.ts';
import { hashOf, nackStatus } from './ads.ts';
import { grpcClusterOf } from './config-source.ts';
import { type GrpcStream, openGrpcStream } from './grpc-stream.ts';

export interface SecretDeps {
  readonly reader: DataReader;
  readonly clock: Clock;
  readonly random: () => number;
  readonly stats: StatsStore;
  readonly log: Logger;
  readonly node: Node;
  /** The address of a static cluster, for its discovery stream. */
  readonly clusterAddress: (name: string) => SocketAddr | undefined;
}

type Material =
  | { readonly kind: 'certificate'; readonly value: CertificateMaterial }
  | { readonly kind: 'trust'; readonly value: TrustMaterial };

/** A secret as the admin interface shows it. */
export interface SecretView {
  readonly name: string;
  readonly isStatic: boolean;
  readonly secret: Secret | undefined;
  readonly material: Material | undefined;
  readonly version: string;
  readonly updated: number;
  readonly error: string | undefined;
}

const TYPE_URL = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret';
const METHOD = '/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets';

class SecretEntry {
  readonly name: string;
  readonly isStatic: boolean;
  secret: Secret | undefined;
  material: Material | undefined;
  version = '';
  updated = 0;
  error: string | undefined;
  settled = false;
  readonly listeners = new Set<() => void>();
  constructor(name: string, isStatic: boolean) {
    this.name = name;
    this.isStatic = isStatic;
  }
  notify(): void {
    for (const run of [...this.listeners]) run();
  }
}

export class SecretManager implements SecretProvider {
  readonly #deps: SecretDeps;
  readonly #entries = new Map<string, SecretEntry>();
  readonly #static = new Map<string, SecretEntry>();
  readonly #stops: (() => void)[] = [];
  #stopped = false;

  constructor(deps: SecretDeps) {
    this.#deps = deps;
  }

  addStatic(secret: Secret, path: string): void {
    const entry = new SecretEntry(secret.name, true);
    entry.material = this.#read(secret, path);
    entry.secret = secret;
    entry.settled = true;
    entry.updated = this.#deps.clock.now();
    this.#static.set(secret.name, entry);
  }

  certificate(ref: SdsRef): Live<CertificateMaterial> {
    return this.#live(ref, (material) => (material.kind === 'certificate' ? material.value : undefined));
  }

  trust(ref: SdsRef): Live<TrustMaterial> {
    return this.#live(ref, (material) => (material.kind === 'trust' ? material.value : undefined));
  }

  views(): SecretView[] {
    return [...this.#static.values(), ...this.#entries.values()];
  }

  stop(): void {
    this.#stopped = true;
    for (const stop of this.#stops) stop();
  }

  #live<T>(ref: SdsRef, pick: (material: Material) => T | undefined): Live<T> {
    const entry = this.#entryOf(ref);
    return {
      name: ref.name,
      current: () => (entry.material ? pick(entry.material) : undefined),
      ready: () => entry.settled,
      listen(changed) {
        entry.listeners.add(changed);
        return () => entry.listeners.delete(changed);
      },
    };
  }

  #entryOf(ref: SdsRef): SecretEntry {
    if (!ref.sdsConfig) {
      const fixed = this.#static.get(ref.name);
      if (!fixed)
        throw new ConfigError(
          'tls_certificate_sds_secret_configs',
          `Unknown static certificate validation context or secret: ${ref.name}`,
        );
      return fixed;
    }
    const cluster = grpcClusterOf(ref.sdsConfig, `sds_config of secret '${ref.name}'`);
    const key = `${cluster}\0${ref.name}`;
    const known = this.#entries.get(key);
    if (known) return known;
    const entry = new SecretEntry(ref.name, false);
    this.#entries.set(key, entry);
    const wait = millis(ref.sdsConfig.initialFetchTimeout, DEFAULT_INITIAL_FETCH_MS);
    if (wait > 0)
      this.#stops.push(
        this.#deps.clock.after(wait, () => {
          if (entry.settled) return;
          this.#deps.stats.counter(`sds.${entry.name}.init_fetch_timeout`).value += 1;
          entry.settled = true;
          entry.notify();
        }),
      );
    this.#follow(entry, cluster);
    return entry;
  }

  /** Keeps one stream for one secret open, for ever. */
  #follow(entry: SecretEntry, cluster: string): void {
    const { clock, random, stats, log } = this.#deps;
    const backoff = createBackoff({ baseMs: XDS_BACKOFF_BASE_MS, maxMs: XDS_BACKOFF_MAX_MS, jitter: 0.5, random });
    const prefix = `sds.${entry.name}.`;
    let stream: GrpcStream | undefined;
    let cancel: (() => void) | undefined;
    const again = (reason: string): void => {
      if (this.#stopped) return;
      stats.counter(`${prefix}update_failure`).value += 1;
      const wait = backoff.next();
      log.debug('secret stream closed, the last secret stays', {
        secret: entry.name,
        reason,
        retryMs: Math.round(wait),
      });
      cancel = clock.after(wait, open);
    };
    const open = (): void => {
      const address = this.#deps.clusterAddress(cluster);
      if (!address) {
        again(`cluster '${cluster}' has no endpoint`);
        return;
      }
      stats.counter(`${prefix}update_attempt`).value += 1;
      stream = openGrpcStream({
        address,
        method: METHOD,
        metadata: [],
        onMessage: (bytes) => {
          backoff.reset();
          this.#receive(entry, bytes, (answer) => stream?.send(answer), prefix);
        },
        onClose: again,
      });
      stream.send(this.#request(entry, '', undefined, true));
    };
    this.#stops.push(() => {
      cancel?.();
      stream?.close();
    });
    // After the caller is done: the cluster of the stream may come later in the same bootstrap.
    cancel = clock.after(0, open);
  }

  #request(entry: SecretEntry, nonce: string, error: string | undefined, withNode: boolean): Uint8Array {
    const request = create(DiscoveryRequestSchema, {
      typeUrl: TYPE_URL,
      resourceNames: [entry.name],
      versionInfo: entry.version,
      responseNonce: nonce,
      ...(withNode ? { node: this.#deps.node } : {}),
      ...(error === undefined ? {} : { errorDetail: nackStatus([{ name: entry.name, reason: error }]) }),
    });
    return toBinary(DiscoveryRequestSchema, request);
  }

  #receive(entry: SecretEntry, bytes: Buffer, answer: (request: Uint8Array) => void, prefix: string): void {
    const { stats, log, clock } = this.#deps;
    let nonce = '';
    try {
      const response = fromBinary(DiscoveryResponseSchema, bytes);
      nonce = response.nonce;
      const found = response.resources
        .map((any) => openAny(any, 'secret').open(SecretSchema))
        .find((secret) => secret.name === entry.name);
      if (!found) throw new ConfigError('', `the answer has no secret '${entry.name}'`);
      entry.material = this.#read(found, `secret '${entry.name}'`);
      entry.secret = found;
      entry.version = response.versionInfo;
      entry.updated = clock.now();
      entry.error = undefined;
      entry.settled = true;
      stats.counter(`${prefix}update_success`).value += 1;
      stats.gauge(`${prefix}version`).value = hashOf(response.versionInfo);
      answer(this.#request(entry, nonce, undefined, false));
    } catch (error) {
      entry.error = errorText(error);
      stats.counter(`${prefix}update_rejected`).value += 1;
      log.warn('secret refused, the last good one stays', { secret: entry.name, reason: entry.error });
      answer(this.#request(entry, nonce, entry.error, false));
      return;
    }
    entry.notify();
  }

  #read(secret: Secret, path: string): Material {
    only(SecretSchema, secret, path, ['name', 'tls_certificate', 'validation_context']);
    const { type } = secret;
    if (type.case === 'tlsCertificate')
      return {
        kind: 'certificate',
        value: certificateMaterial(type.value, this.#deps.reader, join(path, 'tls_certificate')),
      };
    if (type.case === 'validationContext')
      return { kind: 'trust', value: trustMaterial(type.value, this.#deps.reader, join(path, 'validation_context')) };
    throw new ConfigError(path, `secret of kind '${type.case ?? 'none'}' is not supported by this proxy`);
  }
}
