// The workload's key, certificate and roots: made once for all who ask, renewed at about half of their life.
// Called by the SDS server; the old certificate stays in place until the new one is there.
import { createPublicKey, X509Certificate } from 'node:crypto';
import { createBackoff } from '../../base/runtime/backoff.ts';
import type { Clock } from '../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import type { SpiffeId } from '../../base/spiffe/spiffe-id.ts';
import { createCsr } from '../../base/x509/csr.ts';
import { altName } from '../../base/x509/extensions.ts';
import { generateKey, type KeyKind, writePrivateKey } from '../../base/x509/keys.ts';
import type { CaClient } from './ca-client.ts';

export interface WorkloadSecret {
  /** Leaf and intermediates. */
  readonly chainPem: string;
  readonly keyPem: string;
  readonly rootsPem: string;
  readonly serialNumber: string;
  /** Milliseconds since the epoch. */
  readonly receivedAt: number;
  readonly expiresAt: number;
}

export interface SecretCacheOptions {
  readonly ca: CaClient;
  readonly identity: SpiffeId;
  readonly keyKind: KeyKind;
  readonly keyForm: 'pkcs8' | 'traditional';
  readonly ttlSeconds: number;
  /** 0.5: renew when half of the life is left. */
  readonly graceRatio: number;
  /** 0.01: ± one hundredth of the life, so that a mesh does not renew at the same moment. */
  readonly graceJitter: number;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
}

export type SecretChange = 'default' | 'ROOTCA';

export interface SecretCache {
  /** The current secret; makes one when there is none or it has expired. One request to the CA at a time. */
  get(): Promise<WorkloadSecret>;
  /** What is there now, if anything. */
  peek(): WorkloadSecret | undefined;
  /** Told when something new is there: ROOTCA before default, so that nobody meets a certificate he cannot check. */
  onChange(handler: (change: SecretChange, secret: WorkloadSecret) => void): () => void;
  /** Obtains the first secret, trying for ever. */
  prewarm(): void;
  close(): void;
}

const RETRY_BASE_MS = 200;
const RETRY_MAX_MS = 15_000;

export function createSecretCache(options: SecretCacheOptions): SecretCache {
  const { clock, log } = options;
  const handlers = new Set<(change: SecretChange, secret: WorkloadSecret) => void>();
  const stop = new AbortController();
  const backoff = createBackoff({ baseMs: RETRY_BASE_MS, maxMs: RETRY_MAX_MS, jitter: 0.2, random: options.random });
  let current: WorkloadSecret | undefined;
  let making: Promise<WorkloadSecret> | undefined;
  let cancelTimer = (): void => {};

  const schedule = (delayMs: number): void => {
    cancelTimer();
    if (!stop.signal.aborted) cancelTimer = clock.after(delayMs, renew);
  };
  const renew = (): void => {
    make().catch((error) => {
      if (stop.signal.aborted) return;
      const wait = backoff.next();
      const left = current ? Math.floor((current.expiresAt - clock.now()) / 1000) : undefined;
      log.warn('failed to get a workload certificate, will try again', {
        error: errorText(error),
        retryMs: Math.round(wait),
        oldOneLastsSeconds: left,
      });
      schedule(wait);
    });
  };
  const make = (): Promise<WorkloadSecret> => {
    making ??= generate(options, stop.signal)
      .then(accept)
      .finally(() => {
        making = undefined;
      });
    return making;
  };
  const accept = (secret: WorkloadSecret): WorkloadSecret => {
    const previous = current;
    current = secret;
    backoff.reset();
    const wait = renewalDelay(secret, options);
    schedule(wait);
    log.info('workload certificate is ready', {
      identity: options.identity,
      serial: secret.serialNumber,
      expires: new Date(secret.expiresAt).toISOString(),
      renewInSeconds: Math.round(wait / 1000),
    });
    if (previous?.rootsPem !== secret.rootsPem) tell('ROOTCA', secret);
    tell('default', secret);
    return secret;
  };
  const tell = (change: SecretChange, secret: WorkloadSecret): void => {
    for (const handler of [...handlers]) handler(change, secret);
  };
  return {
    get: () => (current && current.expiresAt > clock.now() ? Promise.resolve(current) : make()),
    peek: () => current,
    onChange(handler) {
      handlers.add(handler);
      return () => handlers.delete(handler);
    },
    prewarm: renew,
    close() {
      stop.abort(new Error('the agent is stopping'));
      cancelTimer();
      handlers.clear();
    },
  };
}

/** life × (1 − clamp(ratio ± jitter)), measured from when the certificate was received (identity.md §10). */
export function renewalDelay(
  secret: Pick<WorkloadSecret, 'receivedAt' | 'expiresAt'>,
  options: Pick<SecretCacheOptions, 'graceRatio' | 'graceJitter' | 'random'>,
): number {
  const life = secret.expiresAt - secret.receivedAt;
  const ratio = options.graceRatio + (2 * options.random() - 1) * options.graceJitter;
  return Math.max(0, life * (1 - Math.min(1, Math.max(0, ratio))));
}

async function generate(options: SecretCacheOptions, signal: AbortSignal): Promise<WorkloadSecret> {
  const { clock } = options;
  const key = await generateKey(options.keyKind);
  const csr = await createCsr(key, [altName(options.identity)]);
  options.log.info('made a private key and a CSR, sending the CSR', {
    identity: options.identity,
    key: options.keyKind,
  });
  const chain = await options.ca.sign(csr, options.ttlSeconds, signal);
  const rootsPem = chain.at(-1) ?? '';
  const leaf = new X509Certificate(chain[0] ?? '');
  if (!leaf.publicKey.equals(createPublicKey(key)))
    throw new Error('the CA answered with a certificate for another key: refused');
  const expiresAt = Date.parse(leaf.validTo);
  if (!(expiresAt > clock.now())) throw new Error(`the CA answered with a certificate that expired at ${leaf.validTo}`);
  return {
    chainPem: chain.slice(0, -1).join(''),
    keyPem: writePrivateKey(key, options.keyForm),
    rootsPem,
    serialNumber: leaf.serialNumber,
    receivedAt: clock.now(),
    expiresAt,
  };
}
