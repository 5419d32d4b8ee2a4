// Sends a CSR to istiod and brings the certificate chain back, with Istio's retries (identity.md §7). Called by secret-cache.ts.
import { type ServiceError, status } from '@grpc/grpc-js';
import { createBackoff } from '../../base/runtime/backoff.ts';
import { type Clock, delay } from '../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import type { Upstream } from './upstream.ts';
import { decodeCertificateResponse, encodeCertificateRequest } from './wire.ts';

const METHOD = '/istio.v1.auth.IstioCertificateService/CreateCertificate';
export const MAX_ATTEMPTS = 5;
const RETRY_BASE_MS = 100;
const RETRY_MAX_MS = 10_000;
const CALL_TIMEOUT_MS = 10_000;
/** The rest (a bad token, a bad CSR) would only be refused again. */
const RETRIED: ReadonlySet<number> = new Set([
  status.CANCELLED,
  status.DEADLINE_EXCEEDED,
  status.RESOURCE_EXHAUSTED,
  status.ABORTED,
  status.INTERNAL,
  status.UNAVAILABLE,
]);

export interface CaClientOptions {
  readonly upstream: Upstream;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  /** Told of every attempt: metrics. */
  readonly onAttempt?: (result: { readonly ok: boolean; readonly ms: number }) => void;
}

export interface CaClient {
  /** PEM elements, leaf first, roots last. Rejects with the CA's text after the last attempt. */
  sign(csrPem: string, ttlSeconds: number, signal?: AbortSignal): Promise<readonly string[]>;
}

export function createCaClient(options: CaClientOptions): CaClient {
  const { clock, log, upstream } = options;
  return {
    async sign(csrPem, ttlSeconds, signal) {
      const request = encodeCertificateRequest(csrPem, ttlSeconds);
      const backoff = createBackoff({
        baseMs: RETRY_BASE_MS,
        maxMs: RETRY_MAX_MS,
        jitter: 0.1,
        random: options.random,
      });
      for (let attempt = 1; ; attempt += 1) {
        const started = clock.now();
        try {
          const chain = await call(upstream, request);
          if (chain.length <= 1)
            throw new Error(`the CA answered with ${chain.length} certificates: a leaf and a root are needed`);
          options.onAttempt?.({ ok: true, ms: clock.now() - started });
          return chain;
        } catch (error) {
          options.onAttempt?.({ ok: false, ms: clock.now() - started });
          // A new connection reads the root again: it may be the one that changed.
          upstream.reset();
          if (attempt >= MAX_ATTEMPTS || !isRetried(error)) throw error;
          log.warn('CSR request failed, trying again', { attempt, error: errorText(error) });
          await delay(clock, backoff.next(), signal);
        }
      }
    },
  };
}

async function call(upstream: Upstream, request: Buffer): Promise<readonly string[]> {
  const [client, metadata] = await Promise.all([upstream.client(), upstream.metadata()]);
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      METHOD,
      (bytes: Buffer) => bytes,
      decodeCertificateResponse,
      request,
      metadata,
      // grpc-js counts deadlines by the system's clock.
      { deadline: Date.now() + CALL_TIMEOUT_MS },
      (error, chain) => (error ? reject(error) : resolve(chain ?? [])),
    );
  });
}

function isRetried(error: unknown): boolean {
  return error instanceof Error && 'code' in error && RETRIED.has((error as ServiceError).code);
}
