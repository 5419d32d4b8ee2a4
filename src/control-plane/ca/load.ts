// Chooses and starts the mesh's certificate authority (identity.md §9.1): plugged-in files, Secret, or memory.
// Called by the control plane's wiring.
import type { KubeClient } from '../../base/kube/types.ts';
import type { Clock } from '../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import type { MetricsRegistry } from '../../base/runtime/metrics.ts';
import type { KeyKind } from '../../base/x509/keys.ts';
import { type Authority, createAuthority, type LiveAuthority } from './authority.ts';
import { type CacertsDirectory, readCacerts } from './cacerts.ts';
import { checkRoot, createRoot, loadOrCreateRoot, type RootOptions } from './self-signed.ts';
import type { SigningMaterial } from './signing-material.ts';

const HOUR_MS = 3_600_000;
export const DEFAULT_WORKLOAD_TTL_MS = 24 * HOUR_MS;
export const MAX_WORKLOAD_TTL_MS = 2160 * HOUR_MS;
export const ROOT_TTL_MS = 87_600 * HOUR_MS;
export const ROOT_CHECK_INTERVAL_MS = HOUR_MS;

export interface CaOptions {
  /** Absent: the CA lives in memory and dies with the process. */
  readonly client?: KubeClient;
  /** Where the Secret is: istio-system. */
  readonly namespace: string;
  readonly trustDomain: string;
  /** `openCacerts('./etc/cacerts', clock)`; absent: no plugged-in CA is looked for. */
  readonly cacerts?: CacertsDirectory;
  readonly clock: Clock;
  /** `randomBytes`. */
  readonly random: (bytes: number) => Buffer;
  readonly log: Logger;
  readonly metrics?: MetricsRegistry;
  /** Of a new self-signed root. RSA 2048 as Istio when absent. */
  readonly keyKind?: KeyKind;
  readonly defaultWorkloadTtlMs?: number;
  readonly maxWorkloadTtlMs?: number;
  readonly rootTtlMs?: number;
  /** 0 or less: the root is never checked. */
  readonly rootCheckIntervalMs?: number;
  /** The first check waits a random part of the interval, so that several istiods do not check at once. */
  readonly rootCheckJitter?: boolean;
}

/** Rejects when files are incomplete or do not fit, or the Secret cannot be read or holds no usable CA. */
export async function loadCertificateAuthority(options: CaOptions): Promise<Authority> {
  const cacerts = options.cacerts ? await readCacerts(options.cacerts) : undefined;
  if (cacerts?.kind === 'plugged-in' && options.cacerts)
    return startPluggedIn(options, options.cacerts, cacerts.material, cacerts.text);
  const root: RootOptions = {
    trustDomain: options.trustDomain,
    keyKind: options.keyKind ?? 'rsa-2048',
    rootTtlMs: options.rootTtlMs ?? ROOT_TTL_MS,
    clock: options.clock,
    random: options.random,
    extraRootsPem: cacerts?.kind === 'none' ? cacerts.extraRootsPem : '',
  };
  const { client } = options;
  if (!client) {
    options.log.warn('no Kubernetes: the self-signed CA is kept in memory only');
    return start(options, 'memory', await createRoot(root), () => {}).authority;
  }
  const { material, created } = await loadOrCreateRoot(client, options.namespace, root);
  options.log.info(created ? 'made a self-signed root' : 'loaded the self-signed root', {
    expires: new Date(material.issuer.certificate.notAfter).toISOString(),
  });
  const stop: { run: () => void } = { run: () => {} };
  const live = start(options, 'secret', material, () => stop.run());
  stop.run = startRotator(client, options, root, live);
  return live.authority;
}

function start(
  options: CaOptions,
  source: Authority['source'],
  material: SigningMaterial,
  onClose: () => void,
): LiveAuthority {
  const { notAfter } = material.issuer.certificate;
  if (options.clock.now() >= notAfter)
    options.log.error('the signing certificate has expired: no certificate can be issued until it is replaced', {
      expired: new Date(notAfter).toISOString(),
    });
  return createAuthority({
    source,
    material,
    clock: options.clock,
    random: options.random,
    log: options.log,
    metrics: options.metrics,
    defaultTtlMs: options.defaultWorkloadTtlMs ?? DEFAULT_WORKLOAD_TTL_MS,
    maxTtlMs: options.maxWorkloadTtlMs ?? MAX_WORKLOAD_TTL_MS,
    serverTtlMs: options.rootTtlMs ?? ROOT_TTL_MS,
    onClose,
  });
}

/** A changed intermediate under the same roots is taken at once; changed roots need a restart, as in Istio. */
function startPluggedIn(
  options: CaOptions,
  directory: CacertsDirectory,
  material: SigningMaterial,
  firstText: string,
): Authority {
  let text = firstText;
  const unwatch = directory.watch(() => {
    readCacerts(directory).then(
      (next) => {
        if (next.kind !== 'plugged-in' || next.text === text) return;
        if (next.material.rootsPem !== live.current().rootsPem) {
          options.log.error('the plugged-in root bundle changed: not taken over; restart istiod to change the root');
          return;
        }
        text = next.text;
        live.replace(next.material);
        options.log.info('took over the changed plugged-in signing certificate');
      },
      (error) =>
        options.log.error('changed plugged-in CA is not usable, kept the old one', { error: errorText(error) }),
    );
  });
  const live = start(options, 'cacerts', material, unwatch);
  options.log.info('use the plugged-in CA', { expires: new Date(material.issuer.certificate.notAfter).toISOString() });
  return live.authority;
}

function startRotator(client: KubeClient, options: CaOptions, root: RootOptions, live: LiveAuthority): () => void {
  const interval = options.rootCheckIntervalMs ?? ROOT_CHECK_INTERVAL_MS;
  if (interval <= 0) return () => {};
  const jitter = options.rootCheckJitter ?? true;
  let closed = false;
  let cancel = (): void => {};
  const check = async (): Promise<void> => {
    try {
      const result = await checkRoot(client, options.namespace, live.current(), root);
      if (result.kind !== 'unchanged' && !closed) {
        options.log.info(`root certificate ${result.kind}`);
        live.replace(result.material);
      }
    } catch (error) {
      options.log.error('the root could not be checked, the old one stays', { error: errorText(error) });
    }
    if (!closed) cancel = options.clock.after(interval, run);
  };
  const run = (): void => void check();
  const first = jitter ? (options.random(4).readUInt32BE() / 2 ** 32) * interval : interval;
  cancel = options.clock.after(first, run);
  return () => {
    closed = true;
    cancel();
  };
}
