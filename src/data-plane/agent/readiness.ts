// Whether the pod may receive traffic: what the proxy's stats say, in Istio's words (identity.md §12). Called by status-server.ts.
import { errorText } from '../../base/runtime/log.ts';

export interface ReadinessOptions {
  /** The proxy's `/stats?usedonly&filter=…` text. Rejects when the proxy does not answer. */
  readonly readStats: () => Promise<string>;
}

export interface Readiness {
  /** Undefined: ready. */
  check(): Promise<string | undefined>;
  /** From now on not ready: the pod is ending. */
  terminating(): void;
}

const FILTER = '^(cluster_manager\\.cds|listener_manager\\.lds|server\\.state$|listener_manager\\.workers_started$)';
export const READY_STATS_PATH = `/stats?filter=${encodeURIComponent(FILTER)}`;

const STATES = ['LIVE', 'DRAINING', 'PRE_INITIALIZING', 'INITIALIZING'] as const;

export function createReadiness(options: ReadinessOptions): Readiness {
  let gotConfig = false;
  let started = false;
  let ending = false;
  return {
    terminating() {
      ending = true;
    },
    async check() {
      if (ending) return 'proxy is terminating';
      if (gotConfig && started) return undefined;
      let stats: ReadonlyMap<string, number>;
      try {
        stats = parseStats(await options.readStats());
      } catch (error) {
        return `failed to get readiness stats: ${errorText(error)}`;
      }
      const missing = gotConfig ? undefined : configProblem(stats);
      if (missing !== undefined) return missing;
      gotConfig = true;
      const problem = serverProblem(stats);
      started = problem === undefined;
      return problem;
    },
  };
}

function configProblem(stats: ReadonlyMap<string, number>): string | undefined {
  const get = (name: string): number => stats.get(name) ?? 0;
  const [cds, lds] = ['cluster_manager.cds', 'listener_manager.lds'];
  const [cdsOk, ldsOk] = [get(`${cds}.update_success`), get(`${lds}.update_success`)];
  if (cdsOk > 0 && ldsOk > 0) return undefined;
  const [cdsBad, ldsBad] = [get(`${cds}.update_rejected`), get(`${lds}.update_rejected`)];
  const detail = `cds updates: ${cdsOk} successful, ${cdsBad} rejected; lds updates: ${ldsOk} successful, ${ldsBad} rejected`;
  if (cdsOk + ldsOk + cdsBad + ldsBad === 0)
    return `config not received from XDS server (is Istiod running?): ${detail}`;
  if (cdsBad + ldsBad > 0) return `config received from XDS server, but was rejected: ${detail}`;
  return `config not fully received from XDS server: ${detail}`;
}

function serverProblem(stats: ReadonlyMap<string, number>): string | undefined {
  const state = stats.get('server.state') ?? 3;
  if (state !== 0) return `server is not live, current state is: ${STATES[state] ?? state}`;
  return stats.get('listener_manager.workers_started') === 1 ? undefined : 'workers have not yet started';
}

export function parseStats(text: string): ReadonlyMap<string, number> {
  const out = new Map<string, number>();
  for (const line of text.split('\n')) {
    const at = line.lastIndexOf(': ');
    const value = Number(line.slice(at + 2));
    if (at > 0 && Number.isFinite(value)) out.set(line.slice(0, at), value);
  }
  return out;
}
