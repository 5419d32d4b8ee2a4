// Round robin, least request and random: draw a priority, then maybe a locality, then a host of that list. Lists and their
// schedules are built by the first pick after a change. Made by make.ts.
import type { Host } from '../host.ts';
import type { HostSet, LocalityHosts } from '../host-set.ts';
import type { LbContext } from '../lb-context.ts';
import { type Balancer, type BalancerDeps, type LbPolicy, panicThreshold } from './balancer.ts';
import { Edf } from './edf.ts';
import { drawPriority, loadWithout, type PriorityLoad, priorityLoad } from './priority-load.ts';
import { slowStartUntil, slowStartWeight } from './slow-start.ts';

export type WeightedPolicy = Extract<LbPolicy, { kind: 'round-robin' | 'least-request' | 'random' }>;

/** One list of hosts and the way to go through it. */
interface Source {
  readonly hosts: readonly Host[];
  schedule: Edf<Host> | undefined;
  /** Position of unweighted round robin. */
  turn: number;
  /** When slow start ends and the schedule is to be looked at again; 0 = never. */
  until: number;
}

/** What one priority offers; parts are made when a pick needs them. */
class PrioritySources {
  readonly set: HostSet;
  all: Source | undefined;
  healthy: Source | undefined;
  degraded: Source | undefined;
  /** null = localities are not drawn. */
  healthyLocalities: Edf<LocalityHosts> | null | undefined;
  degradedLocalities: Edf<LocalityHosts> | null | undefined;
  readonly byLocality = new Map<readonly Host[], Source>();

  constructor(set: HostSet) {
    this.set = set;
  }
}

export class WeightedBalancer implements Balancer {
  readonly #policy: WeightedPolicy;
  readonly #deps: BalancerDeps;
  #sets: readonly HostSet[] = [];
  #sources: PrioritySources[] = [];
  #load: PriorityLoad | undefined;
  #threshold = -1;
  /** Picks so far: where new lists begin, so that updates do not begin at the first host again. */
  #turn: number;

  constructor(policy: WeightedPolicy, deps: BalancerDeps) {
    this.#policy = policy;
    this.#deps = deps;
    // Many proxies start at the same time: they must not all begin with the same host.
    this.#turn = Math.floor(deps.random() * 0x40000000);
  }

  update(sets: readonly HostSet[]): void {
    this.#sets = sets;
    this.#sources = sets.map((set) => new PrioritySources(set));
    this.#load = undefined;
  }

  pick(context: LbContext): Host | undefined {
    const { avoid, avoidPriorities } = context;
    let host = this.#once(avoidPriorities);
    if (avoid) for (let i = 0; i < context.attempts && host && avoid(host); i++) host = this.#once(avoidPriorities);
    return host;
  }

  #once(avoid: ReadonlySet<number> | undefined): Host | undefined {
    const source = this.#source(avoid);
    if (!source || source.hosts.length === 0) return undefined;
    if (source.until > 0 && this.#deps.now() >= source.until) this.#schedule(source);
    return source.schedule ? source.schedule.next() : this.#unweighted(source);
  }

  #source(avoid: ReadonlySet<number> | undefined): Source | undefined {
    if (this.#sets.length === 0) return undefined;
    const { random } = this.#deps;
    const threshold = panicThreshold(this.#deps);
    if (!this.#load || threshold !== this.#threshold) {
      this.#threshold = threshold;
      this.#load = priorityLoad(this.#sets, threshold);
    }
    const load = avoid ? loadWithout(this.#load, this.#sets, avoid) : this.#load;
    const drawn = load.simple ? 0 : drawPriority(load, Math.floor(random() * 100) + 1);
    const degraded = drawn < 0;
    const priority = degraded ? -1 - drawn : drawn;
    const sources = this.#sources[priority]!;
    if (load.panic[priority]) {
      this.#deps.counters.panic.value += 1;
      if (this.#policy.locality.failOnPanic) return undefined;
      sources.all ??= this.#make(sources.set.hosts);
      return sources.all;
    }
    const locality = this.#policy.locality.weighted ? this.#locality(sources, degraded) : undefined;
    if (locality) {
      const hosts = degraded ? locality.degraded : locality.healthy;
      let source = sources.byLocality.get(hosts);
      if (!source) {
        source = this.#make(hosts);
        sources.byLocality.set(hosts, source);
      }
      return source;
    }
    if (degraded) {
      sources.degraded ??= this.#make(sources.set.degraded);
      return sources.degraded;
    }
    sources.healthy ??= this.#make(sources.set.healthy);
    return sources.healthy;
  }

  #locality(sources: PrioritySources, degraded: boolean): LocalityHosts | undefined {
    let schedule = degraded ? sources.degradedLocalities : sources.healthyLocalities;
    if (schedule === undefined) {
      schedule = localitySchedule(sources.set, degraded, this.#deps.random);
      if (degraded) sources.degradedLocalities = schedule;
      else sources.healthyLocalities = schedule;
    }
    return schedule?.next();
  }

  #make(hosts: readonly Host[]): Source {
    const source: Source = { hosts, schedule: undefined, turn: this.#turn, until: 0 };
    this.#schedule(source);
    return source;
  }

  /** A schedule is only needed when hosts differ in weight or some are in slow start. */
  #schedule(source: Source): void {
    const policy = this.#policy;
    source.schedule = undefined;
    source.until = 0;
    if (policy.kind === 'random' || source.hosts.length < 2) return;
    const now = this.#deps.now();
    if (policy.slowStart) source.until = slowStartUntil(source.hosts, policy.slowStart, now);
    const first = source.hosts[0]!.weight;
    if (source.until === 0 && source.hosts.every((host) => host.weight === first)) return;
    source.schedule = new Edf(source.hosts, (host) => this.#weight(host), this.#deps.random);
  }

  #weight(host: Host): number {
    const policy = this.#policy;
    let { weight } = host;
    if (policy.kind === 'random') return weight;
    if (policy.kind === 'least-request') {
      const bias = policy.bias();
      if (bias === 1) weight /= host.load + 1;
      else if (bias !== 0) weight /= (host.load + 1) ** bias;
    }
    return policy.slowStart ? slowStartWeight(host, weight, policy.slowStart, this.#deps.now()) : weight;
  }

  #unweighted(source: Source): Host | undefined {
    const { hosts } = source;
    const { random } = this.#deps;
    const policy = this.#policy;
    switch (policy.kind) {
      case 'round-robin':
        this.#turn = (this.#turn + 1) & 0x3fffffff;
        source.turn = (source.turn + 1) & 0x3fffffff;
        return hosts[source.turn % hosts.length];
      case 'random':
        return hosts[Math.floor(random() * hosts.length)];
      case 'least-request':
        return policy.fullScan ? leastOf(hosts, random) : leastOfSome(hosts, policy.choices, random);
    }
  }
}

function leastOfSome(hosts: readonly Host[], choices: number, random: () => number): Host {
  let best = hosts[Math.floor(random() * hosts.length)]!;
  let least = best.load;
  for (let i = 1; i < choices; i++) {
    const other = hosts[Math.floor(random() * hosts.length)]!;
    const { load } = other;
    if (load >= least) continue;
    best = other;
    least = load;
  }
  return best;
}

/** The least busy of all hosts; among equals each with the same chance. */
function leastOf(hosts: readonly Host[], random: () => number): Host {
  let best = hosts[0]!;
  let least = best.load;
  let equals = 1;
  for (let i = 1; i < hosts.length; i++) {
    const host = hosts[i]!;
    const { load } = host;
    if (load < least) {
      best = host;
      least = load;
      equals = 1;
    } else if (load === least) {
      equals += 1;
      if (random() * equals < 1) best = host;
    }
  }
  return best;
}

/** Localities by weight × availability; null when no locality has a weight or a host to use. */
function localitySchedule(set: HostSet, degraded: boolean, random: () => number): Edf<LocalityHosts> | null {
  if (!set.hasLocalityWeights) return null;
  const weights = new Map<LocalityHosts, number>();
  for (const locality of set.localities) {
    const weight = effectiveWeight(set, locality, degraded ? locality.degraded.length : locality.healthy.length);
    if (weight > 0) weights.set(locality, weight);
  }
  if (weights.size === 0) return null;
  return new Edf([...weights.keys()], (locality) => weights.get(locality)!, random);
}

function effectiveWeight(set: HostSet, locality: LocalityHosts, available: number): number {
  const all = locality.hosts.length - locality.excluded;
  if (all === 0) return 0;
  return set.localityWeight(locality) * Math.min(1, ((set.overprovisioning / 100) * available) / all);
}
