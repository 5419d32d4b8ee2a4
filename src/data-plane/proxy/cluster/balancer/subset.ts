// Subset load balancing: hosts sorted by metadata keys of the selectors; a request's metadata_match names the subset, and
// the fallback policy says what happens when there is none. Each subset has a balancer of its own. Made by make.ts.

import { MAX_SUBSETS } from '../../limits.ts';
import type { Host } from '../host.ts';
import { HostSet, type LocalityScale } from '../host-set.ts';
import { type LbContext, type MetadataMatch, valueText } from '../lb-context.ts';
import type { Balancer, BalancerDeps, SubsetPolicy, SubsetSelector } from './balancer.ts';

interface Subset {
  readonly key: string;
  members: Set<Host>;
  readonly balancer: Balancer;
  /** Built for the current hosts. */
  fresh: boolean;
}

interface SelectorIndex {
  readonly selector: SubsetSelector;
  /** Sorted keys, joined. */
  readonly name: string;
  readonly subsets: Map<string, Subset>;
}

export class SubsetBalancer implements Balancer {
  readonly #policy: SubsetPolicy;
  readonly #deps: BalancerDeps;
  readonly #child: () => Balancer;
  readonly #selectors: readonly SelectorIndex[];
  readonly #byName: ReadonlyMap<string, SelectorIndex>;
  #sets: readonly HostSet[] = [];
  #fallback: Balancer | undefined;
  #default: Balancer | undefined;
  #any: Balancer | undefined;

  constructor(policy: SubsetPolicy, child: () => Balancer, deps: BalancerDeps) {
    this.#policy = policy;
    this.#child = child;
    this.#deps = deps;
    this.#selectors = policy.selectors.map((selector) => ({
      selector,
      name: nameOf(selector.keys),
      subsets: new Map(),
    }));
    this.#byName = new Map(this.#selectors.map((index) => [index.name, index]));
  }

  update(sets: readonly HostSet[]): void {
    this.#sets = sets;
    const policy = this.#policy;
    const uses = (kind: 'any' | 'default'): boolean =>
      policy.fallback === kind || policy.selectors.some((selector) => selector.fallback === kind);
    if (uses('any') || policy.panicModeAny) {
      this.#any ??= this.#child();
      this.#any.update(sets);
    }
    if (uses('default')) {
      this.#default ??= this.#child();
      const { defaultSubset } = policy;
      this.#default.update(this.#restrict((host) => carries(host, defaultSubset, policy.listAsAny)));
    }
    this.#fallback = policy.fallback === 'any' ? this.#any : policy.fallback === 'default' ? this.#default : undefined;
    for (const index of this.#selectors) this.#index(index);
  }

  pick(context: LbContext): Host | undefined {
    const match = context.metadataMatch;
    if (!this.#policy.fallbackList || !match) return this.#pick(context, match);
    const { alternatives, rest } = fallbackList(match);
    if (!alternatives) return this.#pick(context, match);
    for (const one of alternatives) {
      const host = this.#pick(context, one ? mergeMatch(rest, one) : rest);
      if (host) return host;
    }
    return undefined;
  }

  #pick(context: LbContext, given: MetadataMatch | undefined): Host | undefined {
    const { counters } = this.#deps;
    const index = given ? this.#find(given) : undefined;
    const match =
      given && index && given.keys.length > index.selector.keys.length ? onlyKeys(given, index.selector.keys) : given;
    if (match && index) {
      const found = index.subsets.get(joinValues(match.values));
      if (found) {
        counters.subsets.selected.value += 1;
        return this.#balancer(found).pick(context);
      }
      const { fallback, fallbackKeys } = index.selector;
      switch (fallback) {
        case 'not-defined':
          break;
        case 'none':
          return undefined;
        case 'any':
          return this.#any?.pick(context);
        case 'default':
          return this.#default?.pick(context);
        case 'keys':
          // Fewer keys each time: it ends.
          return this.#pick(context, onlyKeys(match, fallbackKeys));
      }
    }
    const host = this.#fallback?.pick(context);
    if (host) {
      counters.subsets.fallback.value += 1;
      return host;
    }
    if (!this.#policy.panicModeAny || this.#policy.fallback === 'none') return undefined;
    const any = this.#any?.pick(context);
    if (any) counters.subsets.fallbackPanic.value += 1;
    return any;
  }

  #find(match: MetadataMatch): SelectorIndex | undefined {
    if (match.keys.length === 0) return undefined;
    const exact = this.#byName.get(nameOf(match.keys));
    if (exact || !this.#policy.allowRedundantKeys) return exact;
    // More criteria than any selector has: the first selector they cover.
    return this.#selectors.find((index) => index.selector.keys.every((key) => match.keys.includes(key)));
  }

  #index(index: SelectorIndex): void {
    const { selector, subsets } = index;
    const { counters } = this.#deps;
    let duplicates = 0;
    const groups = new Map<string, Set<Host>>();
    for (const set of this.#sets)
      for (const host of set.hosts)
        for (const key of valueKeys(host, selector.keys, this.#policy.listAsAny)) {
          let members = groups.get(key);
          if (!members) {
            if (groups.size >= MAX_SUBSETS) continue;
            members = new Set();
            groups.set(key, members);
          }
          // One host a value: the first one stays.
          if (selector.single && members.size > 0 && !members.has(host)) duplicates += 1;
          else members.add(host);
        }
    if (selector.single) counters.subsets.duplicate.value = duplicates;
    for (const [key] of subsets)
      if (!groups.has(key)) {
        subsets.delete(key);
        counters.subsets.removed.value += 1;
        counters.subsets.active.value -= 1;
      }
    for (const [key, members] of groups) {
      const known = subsets.get(key);
      if (known) {
        known.members = members;
        known.fresh = false;
        continue;
      }
      subsets.set(key, { key, members, balancer: this.#child(), fresh: false });
      counters.subsets.created.value += 1;
      counters.subsets.active.value += 1;
    }
  }

  /** Balancers of subsets are brought up to date when somebody asks for them. */
  #balancer(subset: Subset): Balancer {
    if (!subset.fresh) {
      subset.fresh = true;
      subset.balancer.update(this.#restrict((host) => subset.members.has(host)));
    }
    return subset.balancer;
  }

  #restrict(belongs: (host: Host) => boolean): HostSet[] {
    const scaleWeights = this.#policy.localityWeightAware && this.#policy.scaleLocalityWeight;
    return this.#sets.map((set) => {
      const hosts = set.hosts.filter(belongs);
      return new HostSet(set.priority, hosts, set, this.#scale(set, hosts, scaleWeights));
    });
  }

  #scale(set: HostSet, hosts: readonly Host[], on: boolean): LocalityScale | null | undefined {
    if (!this.#policy.localityWeightAware) return null;
    if (!on) return undefined;
    const mine = new Set(hosts);
    const shares = new Map(
      set.localities.map((locality) => [
        locality.group,
        locality.hosts.filter((host) => mine.has(host)).length / locality.hosts.length,
      ]),
    );
    return (group) => shares.get(group) ?? 1;
  }
}

const SEPARATOR = '\u0000';
const nameOf = (keys: readonly string[]): string => keys.join(SEPARATOR);
const joinValues = (values: readonly string[]): string => values.join(SEPARATOR);

/** The subsets a host belongs to: none when it lacks a key; several when a list stands for each of its values. */
function valueKeys(host: Host, keys: readonly string[], listAsAny: boolean): string[] {
  const labels = host.spec.metadata['envoy.lb'];
  let out = [''];
  for (const [i, key] of keys.entries()) {
    const value = labels?.[key];
    if (value === undefined) return [];
    const texts = listAsAny && Array.isArray(value) ? value.map(valueText) : [valueText(value)];
    out = out.flatMap((before) => texts.map((text) => (i === 0 ? text : before + SEPARATOR + text)));
    if (out.length > MAX_SUBSETS) return out.slice(0, MAX_SUBSETS);
  }
  return out;
}

function carries(host: Host, wanted: ReadonlyMap<string, string>, listAsAny: boolean): boolean {
  const labels = host.spec.metadata['envoy.lb'];
  for (const [key, text] of wanted) {
    const value = labels?.[key];
    if (value === undefined) return false;
    if (valueText(value) === text) continue;
    if (!listAsAny || !Array.isArray(value) || !value.some((one) => valueText(one) === text)) return false;
  }
  return true;
}

function onlyKeys(match: MetadataMatch, keys: readonly string[]): MetadataMatch {
  const kept = match.keys.flatMap((key, i) => (keys.includes(key) ? [i] : []));
  return { keys: kept.map((i) => match.keys[i]!), values: kept.map((i) => match.values[i]!) };
}

const FALLBACK_LIST = 'fallback_list';

/** `fallback_list` in the criteria: sets of criteria to be tried in turn. */
function fallbackList(match: MetadataMatch): {
  readonly alternatives: readonly (MetadataMatch | undefined)[] | undefined;
  readonly rest: MetadataMatch;
} {
  const at = match.keys.indexOf(FALLBACK_LIST);
  if (at < 0) return { alternatives: undefined, rest: match };
  const parsed: unknown = JSON.parse(match.values[at]!);
  const rest = onlyKeys(
    match,
    match.keys.filter((key) => key !== FALLBACK_LIST),
  );
  if (!Array.isArray(parsed)) return { alternatives: undefined, rest };
  const alternatives = parsed.map((one: unknown) => {
    if (typeof one !== 'object' || one === null) return undefined;
    const entries = Object.entries(one).sort(([a], [b]) => (a < b ? -1 : 1));
    return { keys: entries.map(([key]) => key), values: entries.map(([, value]) => valueText(value)) };
  });
  return { alternatives, rest };
}

function mergeMatch(base: MetadataMatch, over: MetadataMatch): MetadataMatch {
  const all = new Map(base.keys.map((key, i) => [key, base.values[i]!]));
  for (const [i, key] of over.keys.entries()) all.set(key, over.values[i]!);
  const keys = [...all.keys()].sort();
  return { keys, values: keys.map((key) => all.get(key)!) };
}
