// Signs: CSRs of workloads and istiod's own certificate, with whatever material is current. Called through types.ts.
import { createPublicKey } from 'node:crypto';
import type { Clock } from '../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import type { MetricsRegistry } from '../../base/runtime/metrics.ts';
import { type Certificate, certificatePem, issueLeaf } from '../../base/x509/certificate.ts';
import { readCsr } from '../../base/x509/csr.ts';
import { X509Error } from '../../base/x509/errors.ts';
import { altName } from '../../base/x509/extensions.ts';
import { generateKey, writePrivateKey } from '../../base/x509/keys.ts';
import type { SigningMaterial } from './signing-material.ts';
import { type CertificateAuthority, SigningError } from './types.ts';

/** What istiod's own parts may ask beyond the contract. */
export interface Authority extends CertificateAuthority {
  /** Signing certificate, chain and roots, PEM: whatever may have issued a client's certificate. */
  issuersPem(): string;
  readonly source: 'cacerts' | 'secret' | 'memory';
}

export interface AuthorityOptions {
  readonly source: Authority['source'];
  readonly material: SigningMaterial;
  readonly clock: Clock;
  readonly random: (bytes: number) => Buffer;
  readonly log: Logger;
  readonly metrics?: MetricsRegistry;
  readonly defaultTtlMs: number;
  readonly maxTtlMs: number;
  readonly serverTtlMs: number;
  readonly onClose: () => void;
}

export interface LiveAuthority {
  readonly authority: Authority;
  /** From now on sign with this; tells the listeners when the roots changed. */
  replace(material: SigningMaterial): void;
  current(): SigningMaterial;
}

export function createAuthority(options: AuthorityOptions): LiveAuthority {
  const { clock, log } = options;
  let material = options.material;
  const listeners = new Set<() => void>();
  registerExpiry(options.metrics, clock, () => material);
  const authority: Authority = {
    source: options.source,
    rootBundlePem: () => material.rootsPem,
    issuersPem: () => [material.issuer.certificate, ...material.chain, ...material.roots].map(certificatePem).join(''),
    onRootChange(handler) {
      listeners.add(handler);
      return () => listeners.delete(handler);
    },
    async signWorkload(csrPem, identities, ttlSeconds) {
      const used = material;
      const ttlMs = workloadTtl(ttlSeconds, used, options);
      if (identities.length === 0) throw new SigningError('internal', 'there is no identity to certify');
      const leaf = await asSigningError(async () => {
        const csr = readCsr(csrPem);
        return issueLeaf(used.issuer, {
          publicKey: csr.publicKey,
          names: identities.map(altName),
          withCommonName: csr.hasCommonName,
          now: clock.now(),
          ttlMs,
          random: options.random,
        });
      });
      return [certificatePem(leaf), ...used.chainPem, used.rootsPem];
    },
    async issueServer(dnsNames) {
      const used = material;
      const type = used.issuer.key.asymmetricKeyType;
      const key = await generateKey(type === 'rsa' ? 'rsa-2048' : 'p256');
      const leaf = await asSigningError(() =>
        issueLeaf(used.issuer, {
          publicKey: createPublicKey(key),
          names: [...new Set(dnsNames)].sort().map(altName),
          now: clock.now(),
          ttlMs: options.serverTtlMs,
          random: options.random,
        }),
      );
      return { keyPem: writePrivateKey(key, 'pkcs8'), chainPem: certificatePem(leaf) + used.chainPem.join('') };
    },
    close() {
      listeners.clear();
      options.onClose();
    },
  };
  return {
    authority,
    current: () => material,
    replace(next) {
      const changed = next.rootsPem !== material.rootsPem;
      material = next;
      if (!changed) return;
      log.info('the root bundle changed', { roots: next.roots.length });
      for (const listener of [...listeners])
        try {
          listener();
        } catch (error) {
          log.error('a listener of the root bundle failed', { error: errorText(error) });
        }
    },
  };
}

/** Zero or less asks for the default, which never outlives the chain; more than the maximum is refused. */
function workloadTtl(ttlSeconds: number, material: SigningMaterial, options: AuthorityOptions): number {
  if (ttlSeconds > 0) {
    const asked = ttlSeconds * 1000;
    if (asked <= options.maxTtlMs) return asked;
    throw new SigningError(
      'ttl',
      `requested TTL ${goDuration(asked)} is greater than the max allowed TTL ${goDuration(options.maxTtlMs)}`,
    );
  }
  const left = chainEnd(material) - options.clock.now();
  return Math.max(1000, Math.min(options.defaultTtlMs, left));
}

async function asSigningError<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof X509Error)) throw new SigningError('internal', 'the certificate could not be made');
    if (error.code === 'expired') throw new SigningError('not-ready', error.message);
    throw new SigningError(error.code === 'template' ? 'internal' : 'csr', error.message);
  }
}

function chainEnd(material: SigningMaterial): number {
  return Math.min(...[material.issuer.certificate, ...material.chain].map((c: Certificate) => c.notAfter));
}

function registerExpiry(metrics: MetricsRegistry | undefined, clock: Clock, material: () => SigningMaterial): void {
  const rootEnd = () => Math.min(...material().roots.map((root) => root.notAfter));
  const seconds = (ms: number) => Math.floor(ms / 1000);
  const add = (name: string, help: string, read: () => number) =>
    metrics?.gaugeFn(`citadel_server_${name}`, help, read);
  add('root_cert_expiry_timestamp', 'When the root expires, Unix seconds.', () => seconds(rootEnd()));
  add('root_cert_expiry_seconds', 'Seconds left to the root.', () => seconds(rootEnd() - clock.now()));
  add('cert_chain_expiry_timestamp', 'When the signing chain expires, Unix seconds.', () =>
    seconds(chainEnd(material())),
  );
  add('cert_chain_expiry_seconds', 'Seconds left to the signing chain.', () =>
    seconds(chainEnd(material()) - clock.now()),
  );
}

/** `2160h0m0s`: durations as Istio's messages print them. */
export function goDuration(ms: number): string {
  const total = Math.floor(ms / 1000);
  const [hours, minutes, seconds] = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
  if (hours > 0) return `${hours}h${minutes}m${seconds}s`;
  return minutes > 0 ? `${minutes}m${seconds}s` : `${seconds}s`;
}
