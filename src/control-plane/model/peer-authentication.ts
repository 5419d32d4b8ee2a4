// Which mTLS mode holds for a workload and each of its ports (mtls.md §2). Pure; called by translate/ and by EDS.
import type { MtlsMode, PeerAuthenticationSpec } from '../../api/istio/peer-authentication.ts';
import type { Config } from '../config/store.ts';

export type EffectiveMode = Exclude<MtlsMode, 'UNSET'>;

export interface PeerAuthenticationIndex {
  readonly mesh: EffectiveMode | undefined;
  readonly namespaces: ReadonlyMap<string, EffectiveMode>;
  /** Per namespace, oldest first. */
  readonly workloads: ReadonlyMap<string, readonly Config<PeerAuthenticationSpec>[]>;
  /** Objects that are not in force because an older one of the same scope exists, or because a selector in the root namespace means nothing. */
  readonly ignored: readonly Config<PeerAuthenticationSpec>[];
}

export interface EffectivePeerAuthentication {
  readonly mode: EffectiveMode;
  /** Ports whose mode was given one by one. */
  readonly ports: ReadonlyMap<number, EffectiveMode>;
}

/** Oldest first; equal times by name, then namespace. */
export function byAge(a: Config<unknown>, b: Config<unknown>): number {
  return a.createdAt - b.createdAt || compare(a.name, b.name) || compare(a.namespace, b.namespace);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

export function indexPeerAuthentications(
  all: readonly Config<PeerAuthenticationSpec>[],
  rootNamespace: string,
): PeerAuthenticationIndex {
  const scopes = new Map<string, EffectiveMode | undefined>();
  const workloads = new Map<string, Config<PeerAuthenticationSpec>[]>();
  const ignored: Config<PeerAuthenticationSpec>[] = [];
  for (const config of [...all].sort(byAge)) {
    if (!config.spec.selector) {
      if (scopes.has(config.namespace)) ignored.push(config);
      else scopes.set(config.namespace, set(config.spec.mode));
    } else if (config.namespace === rootNamespace) ignored.push(config);
    else {
      const list = workloads.get(config.namespace) ?? [];
      list.push(config);
      workloads.set(config.namespace, list);
    }
  }
  const mesh = scopes.get(rootNamespace);
  const namespaces = new Map<string, EffectiveMode>();
  for (const [namespace, mode] of scopes) if (namespace !== rootNamespace && mode) namespaces.set(namespace, mode);
  return { mesh, namespaces, workloads, ignored };
}

function set(mode: MtlsMode): EffectiveMode | undefined {
  return mode === 'UNSET' ? undefined : mode;
}

/** Namespace level, else mesh level, else PERMISSIVE: what a client may infer about a Service as a whole. */
export function namespaceMode(index: PeerAuthenticationIndex, namespace: string): EffectiveMode {
  return index.namespaces.get(namespace) ?? index.mesh ?? 'PERMISSIVE';
}

export function effectivePeerAuthentication(
  index: PeerAuthenticationIndex,
  namespace: string,
  labels: Readonly<Record<string, string>>,
): EffectivePeerAuthentication {
  const policy = index.workloads.get(namespace)?.find((c) => matches(c.spec.selector ?? {}, labels));
  const mode = set(policy?.spec.mode ?? 'UNSET') ?? namespaceMode(index, namespace);
  const ports = new Map<number, EffectiveMode>();
  for (const [port, portMode] of policy?.spec.portLevel ?? []) ports.set(port, set(portMode) ?? mode);
  return { mode, ports };
}

export function modeOfPort(effective: EffectivePeerAuthentication, targetPort: number): EffectiveMode {
  return effective.ports.get(targetPort) ?? effective.mode;
}

export function matches(selector: Readonly<Record<string, string>>, labels: Readonly<Record<string, string>>): boolean {
  for (const [key, value] of Object.entries(selector)) if (labels[key] !== value) return false;
  return true;
}
