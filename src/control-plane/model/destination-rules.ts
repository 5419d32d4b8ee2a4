// Which DestinationRule holds for a host as seen by a client (traffic.md §3, §5). Pure; called by translate/.
import type { DestinationRuleSpec, Subset } from '../../api/istio/destination-rule.ts';
import type { TrafficPolicy, TrafficSettings } from '../../api/istio/traffic-policy.ts';
import type { Config } from '../config/store.ts';
import { hostMatches, isVisible, moreSpecific, resolveHost } from './hosts.ts';
import { byAge } from './peer-authentication.ts';

/** The rules of one namespace for one host, merged. */
export interface MergedRule {
  readonly host: string;
  readonly namespace: string;
  readonly names: readonly string[];
  readonly policy: TrafficPolicy | undefined;
  readonly subsets: readonly Subset[];
  readonly exportTo: readonly string[];
}

export interface DestinationRuleIndex {
  /** By namespace, most specific host first. */
  readonly byNamespace: ReadonlyMap<string, readonly MergedRule[]>;
}

export function indexDestinationRules(
  all: readonly Config<DestinationRuleSpec>[],
  domain: string,
): DestinationRuleIndex {
  const byNamespace = new Map<string, Map<string, MergedRule>>();
  for (const config of [...all].sort(byAge)) {
    const host = resolveHost(config.spec.host, config.namespace, domain);
    const rules = byNamespace.get(config.namespace) ?? new Map<string, MergedRule>();
    byNamespace.set(config.namespace, rules);
    const older = rules.get(host);
    rules.set(host, {
      host,
      namespace: config.namespace,
      names: [...(older?.names ?? []), config.name],
      policy: older?.policy ?? config.spec.policy,
      subsets: [
        ...(older?.subsets ?? []),
        ...config.spec.subsets.filter((s) => !older?.subsets.some((o) => o.name === s.name)),
      ],
      exportTo: older?.exportTo ?? config.spec.exportTo,
    });
  }
  const sorted = new Map<string, readonly MergedRule[]>();
  for (const [namespace, rules] of byNamespace)
    sorted.set(
      namespace,
      [...rules.values()].sort((a, b) => moreSpecific(a.host, b.host)),
    );
  return { byNamespace: sorted };
}

/** The client's namespace first (unless it is the root namespace), then the Service's, then the root namespace. */
export function findDestinationRule(
  index: DestinationRuleIndex,
  client: { readonly namespace: string; readonly rootNamespace: string },
  service: { readonly host: string; readonly namespace: string },
): MergedRule | undefined {
  const order = new Set([
    ...(client.namespace === client.rootNamespace ? [] : [client.namespace]),
    service.namespace,
    client.rootNamespace,
  ]);
  for (const namespace of order) {
    const found = index.byNamespace
      .get(namespace)
      ?.find((r) => hostMatches(r.host, service.host) && isVisible(r.exportTo, namespace, client.namespace));
    if (found) return found;
  }
  return undefined;
}

export type EffectivePolicy = TrafficSettings;

/** Subset port > subset > rule port > rule, block by block; a port that is named takes nothing from the policy around it. */
export function effectivePolicy(
  rule: MergedRule | undefined,
  subset: Subset | undefined,
  port: number,
): EffectivePolicy {
  const levels = [atPort(subset?.policy, port), atPort(rule?.policy, port)];
  const first = <K extends keyof TrafficSettings>(key: K): Pick<TrafficSettings, K> => {
    const found = levels.find((l) => l?.[key] !== undefined)?.[key];
    return (found === undefined ? {} : { [key]: found }) as Pick<TrafficSettings, K>;
  };
  return { ...first('tls'), ...first('lb'), ...first('pool'), ...first('outlier') };
}

function atPort(policy: TrafficPolicy | undefined, port: number): TrafficSettings | undefined {
  return policy?.ports.get(port) ?? policy;
}
