// One way to ask a host whether it is well. Made by checker.ts for every host, used again for every check.

export type ProbeResult =
  | { readonly kind: 'healthy' }
  | { readonly kind: 'degraded' }
  /** `network`: no answer; `active`: an answer that says no. A retriable no counts towards the threshold. */
  | {
      readonly kind: 'failed';
      readonly why: 'active' | 'network';
      readonly retriable: boolean;
      /** The host asked not to be counted (x-envoy-immediate-health-check-fail). */
      readonly exclude: boolean;
    };

export const HEALTHY: ProbeResult = { kind: 'healthy' };
export const DEGRADED: ProbeResult = { kind: 'degraded' };
export const REFUSED: ProbeResult = { kind: 'failed', why: 'active', retriable: false, exclude: false };
export const UNREACHABLE: ProbeResult = { kind: 'failed', why: 'network', retriable: true, exclude: false };

export interface Probe {
  /** Calls `done` once, maybe at once; the returned function gives up. */
  start(done: (result: ProbeResult) => void): () => void;
  /** The host is gone: kept connections end. */
  stop(): void;
}
