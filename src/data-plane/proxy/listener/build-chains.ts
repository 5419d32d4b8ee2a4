// Makes the filter chains of a listener, taking over those of its previous version that did not change. Called by listener.ts.
import type { Listener as ListenerMessage } from '#proto/envoy/config/listener/v3/listener_pb.js';
import { addressText } from '../config/address.ts';
import { ConfigError, join } from '../config/fields.ts';
import { type ChainContext, chainFingerprint, FilterChain } from '../filter-chain/chain.ts';
import { matchKey } from '../filter-chain/match.ts';
import { readListener } from './settings.ts';

export interface BuiltChains {
  readonly chains: FilterChain[];
  readonly fallback: FilterChain | undefined;
}

/** Throws ConfigError. */
export function buildChains(
  message: ListenerMessage,
  context: ChainContext,
  path: string,
  reuse: readonly FilterChain[],
): BuiltChains {
  const known = new Map(reuse.map((chain) => [chain.fingerprint, chain]));
  const fresh: FilterChain[] = [];
  const make = (chain: (typeof message.filterChains)[number], at: string): FilterChain => {
    const kept = known.get(chainFingerprint(chain));
    if (kept) return kept;
    const shared = context.shared?.under(`${path} ${chainFingerprint(chain)}`, at);
    const made = new FilterChain(chain, { ...context, shared }, at);
    fresh.push(made);
    return made;
  };
  try {
    const chains = message.filterChains.map((chain, i) => make(chain, join(path, `filter_chains[${i}]`)));
    const keys = new Map<string, string>();
    for (const [i, chain] of chains.entries()) {
      const key = matchKey(chain.match);
      const other = keys.get(key);
      if (other !== undefined)
        throw new ConfigError(
          path,
          `error adding listener '${addressText(readListener(message, path).addresses[0])}': filter chain '${chain.name || i}' has the same matching rules defined as '${other}'`,
        );
      keys.set(key, chain.name || String(i));
    }
    const fallback = message.defaultFilterChain
      ? make(message.defaultFilterChain, join(path, 'default_filter_chain'))
      : undefined;
    if (chains.length === 0 && !fallback)
      throw new ConfigError(join(path, 'filter_chains'), 'no filter chains specified');
    return { chains, fallback };
  } catch (error) {
    for (const chain of fresh) chain.dispose();
    throw error;
  }
}
