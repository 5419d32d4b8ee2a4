// Which filter chain serves a connection: Envoy's order, most specific first at each step, no way back.
import {
  type FilterChainMatch,
  FilterChainMatchSchema,
  FilterChainMatch_ConnectionSourceType as SourceType,
} from '#proto/envoy/config/listener/v3/listener_components_pb.js';
import { type Cidr, cidrContains, cidrOf, isLoopback, type SocketAddr } from '../config/address.ts';
import { ConfigError, join, only } from '../config/fields.ts';

/** What is known about a connection when its chain is chosen. */
export interface MatchInput {
  readonly destination: SocketAddr;
  readonly source: SocketAddr;
  readonly serverName: string;
  readonly transportProtocol: string;
  readonly alpn: readonly string[];
}

export interface ChainMatch {
  readonly port: number | undefined;
  readonly destinations: readonly Cidr[];
  readonly serverNames: readonly string[];
  readonly transportProtocol: string;
  readonly alpn: readonly string[];
  readonly directSources: readonly Cidr[];
  readonly sourceType: 'any' | 'local' | 'external';
  readonly sources: readonly Cidr[];
  readonly sourcePorts: readonly number[];
}

export const MATCH_ALL: ChainMatch = {
  port: undefined,
  destinations: [],
  serverNames: [],
  transportProtocol: '',
  alpn: [],
  directSources: [],
  sourceType: 'any',
  sources: [],
  sourcePorts: [],
};

export function readChainMatch(message: FilterChainMatch | undefined, path: string): ChainMatch {
  if (!message) return MATCH_ALL;
  only(FilterChainMatchSchema, message, path, [
    'destination_port',
    'prefix_ranges',
    'server_names',
    'transport_protocol',
    'application_protocols',
    'direct_source_prefix_ranges',
    'source_type',
    'source_prefix_ranges',
    'source_ports',
  ]);
  const ranges = (list: typeof message.prefixRanges, name: string) =>
    list.map((range, i) => cidrOf(range, join(path, `${name}[${i}]`)));
  for (const name of message.serverNames)
    if (name.includes('*') && !/^\*\.[^*]+$/.test(name))
      throw new ConfigError(
        join(path, 'server_names'),
        `partial wildcards are not supported in "server_names": ${name}`,
      );
  return {
    port: message.destinationPort,
    destinations: ranges(message.prefixRanges, 'prefix_ranges'),
    serverNames: message.serverNames.map((name) => name.toLowerCase()),
    transportProtocol: message.transportProtocol,
    alpn: message.applicationProtocols,
    directSources: ranges(message.directSourcePrefixRanges, 'direct_source_prefix_ranges'),
    sourceType:
      message.sourceType === SourceType.SAME_IP_OR_LOOPBACK
        ? 'local'
        : message.sourceType === SourceType.EXTERNAL
          ? 'external'
          : 'any',
    sources: ranges(message.sourcePrefixRanges, 'source_prefix_ranges'),
    sourcePorts: message.sourcePorts,
  };
}

/** Equal keys mean that two chains could not be told apart. */
export function matchKey(match: ChainMatch): string {
  return JSON.stringify(match, (_key, value: unknown) => (value instanceof Uint8Array ? [...value] : value));
}

export class ChainTable<C> {
  readonly #byPort = new Map<number, (readonly [ChainMatch, C])[]>();
  readonly #anyPort: (readonly [ChainMatch, C])[] = [];

  constructor(chains: readonly (readonly [ChainMatch, C])[]) {
    for (const entry of chains) {
      const { port } = entry[0];
      if (port === undefined) this.#anyPort.push(entry);
      else {
        const list = this.#byPort.get(port);
        if (list) list.push(entry);
        else this.#byPort.set(port, [entry]);
      }
    }
  }

  find(input: MatchInput): C | undefined {
    const port = input.destination.kind === 'ip' ? input.destination.port : -1;
    let left = this.#byPort.get(port) ?? this.#anyPort;
    for (const step of STEPS) {
      left = narrow(left, input, step);
      if (left.length === 0) return undefined;
    }
    return left[0]![1];
  }
}

/** How well a chain fits at one step: -1 = not at all, 0 = it does not ask, more = more specific. */
type Step = (match: ChainMatch, input: MatchInput) => number;

function narrow<C>(list: (readonly [ChainMatch, C])[], input: MatchInput, step: Step): (readonly [ChainMatch, C])[] {
  if (list.length === 1) return step(list[0]![0], input) < 0 ? [] : list;
  let best = -1;
  let out: (readonly [ChainMatch, C])[] = [];
  for (const entry of list) {
    const fit = step(entry[0], input);
    if (fit < 0 || fit < best) continue;
    if (fit > best) {
      best = fit;
      out = [];
    }
    out.push(entry);
  }
  return out;
}

const STEPS: readonly Step[] = [
  (match, input) => prefixFit(match.destinations, input.destination),
  serverNameFit,
  (match, input) => (match.transportProtocol === '' ? 0 : match.transportProtocol === input.transportProtocol ? 1 : -1),
  (match, input) => {
    if (match.alpn.length === 0) return 0;
    // The client's own order decides.
    const at = input.alpn.findIndex((name) => match.alpn.includes(name));
    return at < 0 ? -1 : 1 + input.alpn.length - at;
  },
  (match, input) => prefixFit(match.directSources, input.source),
  (match, input) => {
    if (match.sourceType === 'any') return 0;
    return (match.sourceType === 'local') === isLocal(input) ? 1 : -1;
  },
  (match, input) => prefixFit(match.sources, input.source),
  (match, input) => {
    if (match.sourcePorts.length === 0) return 0;
    return input.source.kind === 'ip' && match.sourcePorts.includes(input.source.port) ? 1 : -1;
  },
];

function prefixFit(ranges: readonly Cidr[], address: SocketAddr): number {
  if (ranges.length === 0) return 0;
  if (address.kind !== 'ip') return -1;
  let best = -1;
  for (const range of ranges) if (cidrContains(range, address.ip) && range.bits + 1 > best) best = range.bits + 1;
  return best;
}

function serverNameFit(match: ChainMatch, input: MatchInput): number {
  if (match.serverNames.length === 0) return 0;
  let best = -1;
  for (const name of match.serverNames) {
    if (name === input.serverName) return Number.MAX_SAFE_INTEGER;
    if (name.startsWith('*.') && input.serverName.endsWith(name.slice(1)) && name.length > best) best = name.length;
  }
  return best;
}

function isLocal(input: MatchInput): boolean {
  if (input.source.kind !== 'ip') return true;
  return isLoopback(input.source.ip) || (input.destination.kind === 'ip' && input.destination.ip === input.source.ip);
}
