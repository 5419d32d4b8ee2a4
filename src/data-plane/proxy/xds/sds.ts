// Secrets: static ones of the bootstrap and those of SDS, one stream a name where they come by gRPC (as Envoy does). Gives
// TLS contexts live values; a bad answer is refused and the last good secret stays. A secret that nobody uses any more is no
// longer followed.
import { type Secret, SecretSchema } from '#proto/envoy/extensions/transport_sockets/tls/v3/secret_pb.js';
import type { Clock } from '../../../base/runtime/clock.ts';
import { errorText } from '../../../base/runtime/log.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import {
  type CertificateMaterial,
  certificateMaterial,
  type DataReader,
  type Live,
  type TicketKeys,
  type TrustMaterial,
  ticketKeys,
  trustMaterial,
} from '../transport-socket/secrets.ts';
import type { SdsRef, SecretLease, SecretStore } from '../transport-socket/tls-context.ts';
import type { DiscoveryHub } from './hub.ts';
import { SDS } from './kinds.ts';
import { readSource } from './source.ts';

export interface SecretDeps {
  readonly reader: DataReader;
  readonly clock: Clock;
  readonly hub: DiscoveryHub;
}

type Material =
  | { readonly kind: 'certificate'; readonly value: CertificateMaterial }
  | { readonly kind: 'trust'; readonly value: TrustMaterial }
  | { readonly kind: 'ticket-keys'; readonly value: TicketKeys };

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

class SecretEntry {
  readonly name: string;
  readonly isStatic: boolean;
  secret: Secret | undefined;
  material: Material | undefined;
  version = '';
  updated = 0;
  error: string | undefined;
  settled = false;
  users = 0;
  /** Ends the subscription. */
  release: () => void = () => {};
  readonly listeners = new Set<() => void>();
  constructor(name: string, isStatic: boolean) {
    this.name = name;
    this.isStatic = isStatic;
  }
  notify(): void {
    for (const run of [...this.listeners]) run();
  }
}

export class SecretManager implements SecretStore {
  readonly #deps: SecretDeps;
  readonly #entries = new Map<string, SecretEntry>();
  readonly #static = new Map<string, SecretEntry>();

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

  lease(): SecretLease {
    const held = new Set<SecretEntry>();
    const live = <T>(ref: SdsRef, pick: (material: Material) => T | undefined): Live<T> => {
      const entry = this.#entryOf(ref);
      if (!held.has(entry)) entry.users += 1;
      held.add(entry);
      return liveOf(entry, pick);
    };
    return {
      certificate: (ref) => live(ref, (material) => (material.kind === 'certificate' ? material.value : undefined)),
      trust: (ref) => live(ref, (material) => (material.kind === 'trust' ? material.value : undefined)),
      ticketKeys: (ref) => live(ref, (material) => (material.kind === 'ticket-keys' ? material.value : undefined)),
      release: () => {
        for (const entry of held) {
          entry.users -= 1;
          if (entry.users === 0) entry.release();
        }
        held.clear();
      },
    };
  }

  views(): SecretView[] {
    return [...this.#static.values(), ...this.#entries.values()];
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
    const path = `sds_config of secret '${ref.name}'`;
    const source = readSource(ref.sdsConfig, path);
    const key = `${source.key} ${ref.name}`;
    const known = this.#entries.get(key);
    if (known) return known;
    const entry = new SecretEntry(ref.name, false);
    const settled = (): void => {
      entry.settled = true;
      entry.notify();
    };
    const unfollow = this.#deps.hub.named(
      source,
      SDS,
      ref.name,
      {
        statPrefix: `sds.${ref.name}.`,
        update: (secret, version) => {
          try {
            entry.material = this.#read(secret, `secret '${entry.name}'`);
          } catch (error) {
            entry.error = errorText(error);
            throw error;
          }
          entry.secret = secret;
          entry.version = version;
          entry.updated = this.#deps.clock.now();
          entry.error = undefined;
          settled();
        },
        // A secret in use stays in use, as in Envoy.
        removed() {},
        timedOut: settled,
      },
      path,
    );
    this.#entries.set(key, entry);
    entry.release = () => {
      unfollow();
      this.#entries.delete(key);
    };
    return entry;
  }

  #read(secret: Secret, path: string): Material {
    only(SecretSchema, secret, path, ['name', 'tls_certificate', 'validation_context', 'session_ticket_keys']);
    const { type } = secret;
    const { reader } = this.#deps;
    switch (type.case) {
      case 'tlsCertificate':
        return {
          kind: 'certificate',
          value: certificateMaterial(type.value, reader, join(path, 'tls_certificate'), secret.name),
        };
      case 'validationContext':
        return {
          kind: 'trust',
          value: trustMaterial(type.value, reader, join(path, 'validation_context'), secret.name),
        };
      case 'sessionTicketKeys':
        return { kind: 'ticket-keys', value: ticketKeys(type.value, reader, join(path, 'session_ticket_keys')) };
      default:
        throw new ConfigError(path, `secret of kind '${type.case ?? 'none'}' is not supported by this proxy`);
    }
  }
}

function liveOf<T>(entry: SecretEntry, pick: (material: Material) => T | undefined): Live<T> {
  return {
    name: entry.name,
    current: () => (entry.material ? pick(entry.material) : undefined),
    ready: () => entry.settled,
    listen(changed) {
      entry.listeners.add(changed);
      return () => entry.listeners.delete(changed);
    },
  };
}
