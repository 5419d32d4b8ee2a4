// Reads how sockets to the hosts of a cluster are made: upstream_bind_config and upstream_connection_options. Called by
// config.ts.
import {
  type Cluster as ClusterMessage,
  UpstreamConnectionOptions_FirstAddressFamilyVersion as Family,
  UpstreamConnectionOptions_HappyEyeballsConfigSchema,
  UpstreamConnectionOptionsSchema,
} from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import {
  BindConfigSchema,
  ExtraSourceAddressSchema,
  type SocketAddress,
  TcpKeepaliveSchema,
} from '#proto/envoy/config/core/v3/address_pb.js';
import { parseIp, type SocketAddr } from '../config/address.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import { type RawOption, readOption } from '../listener/socket-settings.ts';
import type { KeepAlive } from '../transport-socket/dial.ts';

export interface SourceAddress {
  /** Undefined = any; only options are set. */
  readonly ip: string | undefined;
  readonly port: number;
}

export interface ConnectSettings {
  readonly keepAlive: KeepAlive | undefined;
  /** For IPv4 and for IPv6 targets. */
  readonly source4: SourceAddress | undefined;
  readonly source6: SourceAddress | undefined;
  /** Set before the socket is bound. */
  readonly options: readonly RawOption[];
  readonly firstFamily: 'given' | 'v4' | 'v6';
  readonly firstCount: number;
}

const SOL_IP = 0;
const IP_FREEBIND = 15;

export function readConnect(message: ClusterMessage, path: string): ConnectSettings {
  const options = message.upstreamConnectionOptions;
  const at = join(path, 'upstream_connection_options');
  if (options) only(UpstreamConnectionOptionsSchema, options, at, ['tcp_keepalive', 'happy_eyeballs_config']);
  const eyeballs = options?.happyEyeballsConfig;
  if (eyeballs)
    only(UpstreamConnectionOptions_HappyEyeballsConfigSchema, eyeballs, join(at, 'happy_eyeballs_config'), [
      'first_address_family_version',
      'first_address_family_count',
    ]);
  const firstCount = eyeballs?.firstAddressFamilyCount ?? 1;
  if (firstCount < 1)
    throw new ConfigError(
      join(at, 'happy_eyeballs_config.first_address_family_count'),
      'value must be greater than or equal to 1',
    );
  return {
    keepAlive: keepAliveOf(message, at),
    ...bindOf(message, path),
    firstFamily:
      eyeballs?.firstAddressFamilyVersion === Family.V4
        ? 'v4'
        : eyeballs?.firstAddressFamilyVersion === Family.V6
          ? 'v6'
          : 'given',
    firstCount,
  };
}

function keepAliveOf(message: ClusterMessage, path: string): KeepAlive | undefined {
  const keep = message.upstreamConnectionOptions?.tcpKeepalive;
  if (!keep) return undefined;
  only(TcpKeepaliveSchema, keep, join(path, 'tcp_keepalive'), [
    'keepalive_probes',
    'keepalive_time',
    'keepalive_interval',
  ]);
  const { keepaliveProbes: probes, keepaliveTime: timeS, keepaliveInterval: intervalS } = keep;
  // All of them 0 switches off what the bootstrap may have switched on.
  if (probes === 0 && timeS === 0 && intervalS === 0) return undefined;
  return { probes, timeS, intervalS };
}

function bindOf(message: ClusterMessage, path: string): Pick<ConnectSettings, 'source4' | 'source6' | 'options'> {
  const bind = message.upstreamBindConfig;
  if (!bind) return { source4: undefined, source6: undefined, options: [] };
  const at = join(path, 'upstream_bind_config');
  only(BindConfigSchema, bind, at, ['source_address', 'freebind', 'socket_options', 'extra_source_addresses']);
  const all: SourceAddress[] = [];
  const add = (address: SocketAddress | undefined, where: string): void => {
    if (!address) return;
    const ip = address.address;
    if (!parseIp(ip)) throw new ConfigError(join(where, 'address'), `malformed IP address: ${ip}`);
    const port = address.portSpecifier.case === 'portValue' ? address.portSpecifier.value : 0;
    all.push({ ip, port });
  };
  add(bind.sourceAddress, join(at, 'source_address'));
  for (const [i, extra] of bind.extraSourceAddresses.entries()) {
    const where = join(at, `extra_source_addresses[${i}]`);
    only(ExtraSourceAddressSchema, extra, where, ['address']);
    add(extra.address, join(where, 'address'));
  }
  const options = bind.socketOptions.map((option, i) => readOption(option, join(at, `socket_options[${i}]`)));
  if (bind.freebind) options.unshift({ level: SOL_IP, name: IP_FREEBIND, value: 1, beforeBind: true });
  const of = (six: boolean): SourceAddress | undefined => {
    const found = all.find(({ ip }) => ip?.includes(':') === six);
    if (!found) return undefined;
    const any = found.ip === '0.0.0.0' || found.ip === '::';
    return any && found.port === 0 ? undefined : found;
  };
  return { source4: of(false), source6: of(true), options };
}

/** Addresses in the order they are tried: families by turns, beginning with the wanted one (RFC 8305). */
export function inTurns(addresses: readonly SocketAddr[], settings: ConnectSettings): SocketAddr[] {
  const six = addresses.filter((address) => address.kind === 'ip' && address.ip.includes(':'));
  const four = addresses.filter((address) => !six.includes(address));
  const given = addresses[0];
  const startSix =
    settings.firstFamily === 'given' ? given !== undefined && six.includes(given) : settings.firstFamily === 'v6';
  const [first, second] = startSix ? [six, four] : [four, six];
  const out: SocketAddr[] = [];
  while (first.length > 0 || second.length > 0) {
    out.push(...first.splice(0, settings.firstCount));
    out.push(...second.splice(0, 1));
  }
  return out;
}
