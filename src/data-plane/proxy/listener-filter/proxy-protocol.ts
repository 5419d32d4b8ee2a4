// PROXY protocol, versions 1 and 2, in front of a connection: who the client really is. Hostile input: every length is
// checked, and nothing is decided before it is complete. Called by the inspection step of listeners.
import type { JsonObject } from '@bufbuild/protobuf';
import {
  ProxyProtocolPassThroughTLVs_PassTLVsMatchType as MatchType,
  type ProxyProtocolPassThroughTLVs,
  ProxyProtocolPassThroughTLVsSchema,
  ProxyProtocolConfig_Version as Version,
} from '#proto/envoy/config/core/v3/proxy_protocol_pb.js';
import {
  type ProxyProtocol,
  ProxyProtocol_KeyValuePairSchema,
  ProxyProtocol_RuleSchema,
  ProxyProtocolSchema,
} from '#proto/envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol_pb.js';
import { canonicalIp, ipText, parseIp, type SocketAddr } from '../config/address.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import type { Counter, StatsStore } from '../stats/stats.ts';

export interface ProxyProtocolSettings {
  readonly allowNone: boolean;
  readonly disallowed: ReadonlySet<1 | 2>;
  /** What becomes metadata, by type; of two rules for a type the last counts. */
  readonly rules: ReadonlyMap<number, { readonly namespace: string; readonly key: string }>;
  /** TLVs of these types are kept for upstreams; undefined = of none. */
  readonly passes: PassesTlv | undefined;
  readonly statPrefix: string;
}

export type PassesTlv = (type: number) => boolean;

/** Of a listener: what is kept; of a cluster: what is passed on. */
export function passedTlvs(message: ProxyProtocolPassThroughTLVs | undefined, path: string): PassesTlv | undefined {
  if (!message) return undefined;
  only(ProxyProtocolPassThroughTLVsSchema, message, path, ['match_type', 'tlv_type']);
  for (const [i, type] of message.tlvType.entries())
    if (type > 255) throw new ConfigError(join(path, `tlv_type[${i}]`), 'value must be less than 256');
  if (message.matchType === MatchType.INCLUDE_ALL) return () => true;
  const types = new Set(message.tlvType);
  return (type) => types.has(type);
}

const NAMESPACE = 'envoy.filters.listener.proxy_protocol';

export function readProxyProtocol(message: ProxyProtocol, path: string): ProxyProtocolSettings {
  only(ProxyProtocolSchema, message, path, [
    'rules',
    'allow_requests_without_proxy_protocol',
    'pass_through_tlvs',
    'disallowed_versions',
    'stat_prefix',
  ]);
  return {
    allowNone: message.allowRequestsWithoutProxyProtocol,
    disallowed: new Set(message.disallowedVersions.map((version) => (version === Version.V1 ? 1 : 2))),
    rules: new Map(
      message.rules.map((rule, i) => {
        const at = join(path, `rules[${i}]`);
        only(ProxyProtocol_RuleSchema, rule, at, ['tlv_type', 'on_tlv_present']);
        if (rule.tlvType > 255) throw new ConfigError(join(at, 'tlv_type'), 'value must be less than 256');
        const then = rule.onTlvPresent;
        if (!then || then.key === '') throw new ConfigError(join(at, 'on_tlv_present.key'), 'value is required');
        only(ProxyProtocol_KeyValuePairSchema, then, join(at, 'on_tlv_present'), ['metadata_namespace', 'key']);
        return [rule.tlvType, { namespace: then.metadataNamespace || NAMESPACE, key: then.key }];
      }),
    ),
    passes: passedTlvs(message.passThroughTlvs, join(path, 'pass_through_tlvs')),
    statPrefix: message.statPrefix,
  };
}

/** What stands at the beginning of a connection. */
export type ProxyHeader =
  | { readonly kind: 'more' }
  | { readonly kind: 'none' }
  | { readonly kind: 'bad'; readonly version: 1 | 2 }
  | {
      readonly kind: 'header';
      readonly version: 1 | 2;
      /** Bytes of the header. */
      readonly length: number;
      /** Undefined: the proxy speaks for itself (LOCAL, UNKNOWN). */
      readonly addresses: { readonly source: SocketAddr; readonly destination: SocketAddr } | undefined;
      readonly tlvs: readonly Tlv[];
    };

export interface Tlv {
  readonly type: number;
  readonly value: Buffer;
}

const V1 = Buffer.from('PROXY ');
/** The longest line, with its end. */
const MAX_V1_BYTES = 108;
const V2 = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');
const V2_FIXED = 16;
const NONE: ProxyHeader = { kind: 'none' };
const MORE: ProxyHeader = { kind: 'more' };

export function readProxyHeader(bytes: Buffer): ProxyHeader {
  if (bytes.length === 0) return MORE;
  if (startsLike(bytes, V2)) return bytes.length < V2_FIXED ? MORE : readV2(bytes);
  if (startsLike(bytes, V1)) return bytes.length < V1.length ? MORE : readV1(bytes);
  return NONE;
}

/** As far as there are bytes. */
function startsLike(bytes: Buffer, start: Buffer): boolean {
  const length = Math.min(bytes.length, start.length);
  return bytes.compare(start, 0, length, 0, length) === 0;
}

function readV1(bytes: Buffer): ProxyHeader {
  const end = bytes.subarray(0, MAX_V1_BYTES).indexOf('\r\n');
  if (end < 0) return bytes.length < MAX_V1_BYTES ? MORE : { kind: 'bad', version: 1 };
  const bad: ProxyHeader = { kind: 'bad', version: 1 };
  const parts = bytes.toString('latin1', V1.length, end).split(' ');
  const length = end + 2;
  const family = parts[0];
  if (family === 'UNKNOWN') return { kind: 'header', version: 1, length, addresses: undefined, tlvs: [] };
  if ((family !== 'TCP4' && family !== 'TCP6') || parts.length !== 5) return bad;
  const source = endOf(parts[1]!, parts[3]!, family);
  const destination = endOf(parts[2]!, parts[4]!, family);
  if (!source || !destination) return bad;
  return { kind: 'header', version: 1, length, addresses: { source, destination }, tlvs: [] };
}

function endOf(ip: string, port: string, family: 'TCP4' | 'TCP6'): SocketAddr | undefined {
  if (!/^\d{1,5}$/.test(port) || Number(port) > 65_535) return undefined;
  if (ip.includes(':') !== (family === 'TCP6') || ip.includes('%') || !parseIp(ip)) return undefined;
  return { kind: 'ip', ip: canonicalIp(ip), port: Number(port) };
}

const LOCAL = 0;
const PROXY = 1;
const TCP4 = 0x11;
const TCP6 = 0x21;

function readV2(bytes: Buffer): ProxyHeader {
  const bad: ProxyHeader = { kind: 'bad', version: 2 };
  const command = bytes[12]!;
  if (command >> 4 !== 2) return bad;
  const rest = bytes.readUInt16BE(14);
  const length = V2_FIXED + rest;
  const what = command & 15;
  if (what === LOCAL)
    return bytes.length < length ? MORE : { kind: 'header', version: 2, length, addresses: undefined, tlvs: [] };
  const family = bytes[13];
  if (what !== PROXY || (family !== TCP4 && family !== TCP6)) return bad;
  const size = family === TCP4 ? 4 : 16;
  const addressBytes = 2 * size + 4;
  if (rest < addressBytes) return bad;
  if (bytes.length < length) return MORE;
  const ports = V2_FIXED + 2 * size;
  const source = {
    kind: 'ip',
    ip: ipText(bytes.subarray(V2_FIXED, V2_FIXED + size)),
    port: bytes.readUInt16BE(ports),
  } as const;
  const destination = {
    kind: 'ip',
    ip: ipText(bytes.subarray(V2_FIXED + size, V2_FIXED + 2 * size)),
    port: bytes.readUInt16BE(ports + 2),
  } as const;
  const tlvs = readTlvs(bytes.subarray(V2_FIXED + addressBytes, length));
  return tlvs ? { kind: 'header', version: 2, length, addresses: { source, destination }, tlvs } : bad;
}

function readTlvs(bytes: Buffer): Tlv[] | undefined {
  const out: Tlv[] = [];
  let at = 0;
  while (at < bytes.length) {
    if (at + 3 > bytes.length) return undefined;
    const size = bytes.readUInt16BE(at + 1);
    if (at + 3 + size > bytes.length) return undefined;
    out.push({ type: bytes[at]!, value: Buffer.from(bytes.subarray(at + 3, at + 3 + size)) });
    at += 3 + size;
  }
  return out;
}

/** Metadata that the rules make of a header's TLVs; the first that writes a key counts. */
export function tlvMetadata(settings: ProxyProtocolSettings, tlvs: readonly Tlv[]): Map<string, JsonObject> {
  const out = new Map<string, JsonObject>();
  for (const { type, value } of tlvs) {
    const rule = settings.rules.get(type);
    if (!rule) continue;
    const before = out.get(rule.namespace);
    if (before && Object.hasOwn(before, rule.key)) continue;
    out.set(rule.namespace, { ...before, [rule.key]: value.toString('utf8').replaceAll('\ufffd', '!') });
  }
  return out;
}

export interface ProxyCounters {
  readonly noneAllowed: Counter;
  readonly noneRefused: Counter;
  readonly versions: Readonly<Record<1 | 2, Readonly<Record<'found' | 'disallowed' | 'error', Counter>>>>;
}

export function proxyCounters(settings: ProxyProtocolSettings, stats: StatsStore): ProxyCounters {
  const prefix = `proxy_proto.${settings.statPrefix === '' ? '' : `${settings.statPrefix}.`}`;
  const version = (number: 1 | 2) => ({
    found: stats.counter(`${prefix}versions.v${number}.found`),
    disallowed: stats.counter(`${prefix}versions.v${number}.disallowed`),
    error: stats.counter(`${prefix}versions.v${number}.error`),
  });
  return {
    noneAllowed: stats.counter(`${prefix}not_found_allowed`),
    noneRefused: stats.counter(`${prefix}not_found_disallowed`),
    versions: { 1: version(1), 2: version(2) },
  };
}

/** Undefined = more bytes are needed; `refused` = the connection must be closed. */
export function takeProxyHeader(
  bytes: Buffer,
  settings: ProxyProtocolSettings,
  counters: ProxyCounters,
): Extract<ProxyHeader, { kind: 'header' | 'none' }> | 'refused' | undefined {
  const header = readProxyHeader(bytes);
  switch (header.kind) {
    case 'more':
      return undefined;
    case 'none':
      (settings.allowNone ? counters.noneAllowed : counters.noneRefused).value += 1;
      return settings.allowNone ? header : 'refused';
    case 'bad':
      counters.versions[header.version].error.value += 1;
      return 'refused';
    case 'header':
      if (settings.disallowed.has(header.version)) {
        counters.versions[header.version].disallowed.value += 1;
        return 'refused';
      }
      counters.versions[header.version].found.value += 1;
      return header;
    default:
      return header satisfies never;
  }
}

/** Writes a header for an upstream; used by the PROXY protocol transport socket. With TLVs that are `tooLong` it has none. */
export function writeProxyHeader(
  version: 1 | 2,
  source: SocketAddr,
  destination: SocketAddr,
  tlvs: readonly Tlv[] = [],
  tooLong?: () => void,
): Buffer {
  const from = source.kind === 'ip' ? parseIp(source.ip) : undefined;
  const to = destination.kind === 'ip' ? parseIp(destination.ip) : undefined;
  const known = from && to && source.kind === 'ip' && destination.kind === 'ip' && from.length === to.length;
  if (version === 1) {
    if (!known) return Buffer.from('PROXY UNKNOWN\r\n');
    const family = from.length === 4 ? 'TCP4' : 'TCP6';
    return Buffer.from(`PROXY ${family} ${source.ip} ${destination.ip} ${source.port} ${destination.port}\r\n`);
  }
  const fixed = Buffer.alloc(V2_FIXED);
  V2.copy(fixed);
  if (!known) {
    fixed[12] = 0x20 | LOCAL;
    return fixed;
  }
  fixed[12] = 0x20 | PROXY;
  fixed[13] = from.length === 4 ? TCP4 : TCP6;
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(source.port, 0);
  ports.writeUInt16BE(destination.port, 2);
  const extra = tlvs.map(({ type, value }) => {
    const head = Buffer.from([type, value.length >> 8, value.length & 255]);
    return Buffer.concat([head, value]);
  });
  const body = Buffer.concat([from, to, ports, ...extra]);
  if (body.length > 65_535) {
    tooLong?.();
    return writeProxyHeader(version, source, destination);
  }
  fixed.writeUInt16BE(body.length, 14);
  return Buffer.concat([fixed, body]);
}
