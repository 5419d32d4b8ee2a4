// Makes the balancer of a policy. Called by clusters and, for its subsets, by the subset balancer.
import type { Balancer, BalancerDeps, LbPolicy } from './balancer.ts';
import { HashBalancer } from './hash.ts';
import { SubsetBalancer } from './subset.ts';
import { WeightedBalancer } from './weighted.ts';

/** Whether hosts are chosen by what is under way to them. */
export function goesByLoad(policy: LbPolicy): boolean {
  switch (policy.kind) {
    case 'least-request':
      return true;
    case 'ring-hash':
    case 'maglev':
      return policy.hashing.balanceFactor > 0;
    case 'subset':
      return goesByLoad(policy.child);
    default:
      return false;
  }
}

const NEVER: Balancer = { update() {}, pick: () => undefined };

export function createBalancer(policy: LbPolicy, deps: BalancerDeps): Balancer {
  switch (policy.kind) {
    case 'round-robin':
    case 'least-request':
    case 'random':
      return new WeightedBalancer(policy, deps);
    case 'ring-hash':
    case 'maglev':
      return new HashBalancer(policy, deps);
    case 'subset':
      return new SubsetBalancer(policy, () => createBalancer(policy.child, deps), deps);
    case 'cluster-provided':
      // The cluster finds hosts itself (ORIGINAL_DST).
      return NEVER;
  }
}
