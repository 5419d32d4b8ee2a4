// How a listener's sockets are opened: sharing of ports, IPv4 on IPv6 sockets, mode of a Unix socket, socket options.
// Called by readListener.
import type { Address } from '#proto/envoy/config/core/v3/address_pb.js';
import {
  type SocketOption,
  SocketOption_SocketState,
  SocketOptionSchema,
} from '#proto/envoy/config/core/v3/socket_option_pb.js';
import type { Listener } from '#proto/envoy/config/listener/v3/listener_pb.js';
import { Listener_ConnectionBalanceConfigSchema } from '#proto/envoy/config/listener/v3/listener_pb.js';
import { ConfigError, join, only } from '../config/fields.ts';

export interface RawOption {
  readonly level: number;
  readonly name: number;
  readonly value: number | Uint8Array;
  /** False: set once the socket listens. */
  readonly beforeBind: boolean;
}

export interface SocketSettings {
  readonly reusePort: boolean;
  /** By the index of the address: an IPv6 socket that takes IPv4 too. */
  readonly ipv4Compat: readonly boolean[];
  /** File mode of Unix sockets, by index; undefined = as the umask says. */
  readonly modes: readonly (number | undefined)[];
  /** Needs a socket of our own making. */
  readonly options: readonly RawOption[];
}

const SOL_IP = 0;
const IP_FREEBIND = 15;
const IP_TRANSPARENT = 19;
const SOL_IPV6 = 41;
const IPV6_TRANSPARENT = 75;
const IPPROTO_TCP = 6;
const TCP_FASTOPEN = 23;
const MAX_MODE = 0o777;

export function readSocket(message: Listener, path: string): SocketSettings {
  const addresses = [message.address, ...message.additionalAddresses.map((entry) => entry.address)];
  const options: RawOption[] = [];
  const ipv6 = addresses.some(
    (each) => each?.address.case === 'socketAddress' && each.address.value.address.includes(':'),
  );
  if (message.freebind) options.push({ level: SOL_IP, name: IP_FREEBIND, value: 1, beforeBind: true });
  if (message.transparent)
    options.push({
      level: ipv6 ? SOL_IPV6 : SOL_IP,
      name: ipv6 ? IPV6_TRANSPARENT : IP_TRANSPARENT,
      value: 1,
      beforeBind: true,
    });
  for (const [i, option] of message.socketOptions.entries())
    options.push(readOption(option, join(path, `socket_options[${i}]`)));
  if (message.tcpFastOpenQueueLength !== undefined)
    options.push({ level: IPPROTO_TCP, name: TCP_FASTOPEN, value: message.tcpFastOpenQueueLength, beforeBind: false });
  if (message.connectionBalanceConfig)
    only(
      Listener_ConnectionBalanceConfigSchema,
      message.connectionBalanceConfig,
      join(path, 'connection_balance_config'),
      ['exact_balance'],
    );
  return {
    reusePort: message.enableReusePort ?? true,
    ipv4Compat: addresses.map((each) => each?.address.case === 'socketAddress' && each.address.value.ipv4Compat),
    modes: addresses.map((each, i) => modeOf(each, join(path, i === 0 ? 'address' : `additional_addresses[${i - 1}]`))),
    options,
  };
}

function modeOf(address: Address | undefined, path: string): number | undefined {
  if (address?.address.case !== 'pipe' || address.address.value.mode === 0) return undefined;
  const { mode, path: file } = address.address.value;
  if (mode > MAX_MODE) throw new ConfigError(join(path, 'pipe.mode'), 'value must be less than or equal to 511');
  if (file.startsWith('@'))
    throw new ConfigError(join(path, 'pipe.mode'), 'Cannot set mode for Abstract AF_UNIX sockets');
  return mode;
}

export function readOption(option: SocketOption, path: string): RawOption {
  only(SocketOptionSchema, option, path, ['description', 'level', 'name', 'int_value', 'buf_value', 'state']);
  const { value } = option;
  if (value.case === undefined) throw new ConfigError(join(path, 'value'), 'value is required');
  return {
    level: Number(option.level),
    name: Number(option.name),
    value: value.case === 'intValue' ? Number(value.value) : value.value,
    beforeBind: option.state !== SocketOption_SocketState.STATE_LISTENING,
  };
}
