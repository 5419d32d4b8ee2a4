// Rate limit actions of routes and virtual hosts: what a request counts as, in pairs of keys and values. Compiled with the
// route; asked by local_ratelimit (and by the rate limit service's filter, when it comes).
import {
  RateLimit_Action_MetaData_Source as MetaDataSource,
  type RateLimit,
  type RateLimit_Action,
  RateLimit_Action_DestinationClusterSchema,
  RateLimit_Action_GenericKeySchema,
  RateLimit_Action_HeaderValueMatchSchema,
  RateLimit_Action_MaskedRemoteAddressSchema,
  RateLimit_Action_MetaDataSchema,
  RateLimit_Action_QueryParameterValueMatchSchema,
  RateLimit_Action_RequestHeadersSchema,
  RateLimitSchema,
} from '#proto/envoy/config/route/v3/route_components_pb.js';
import { ipText, parseIp } from '../config/address.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import { headerName } from '../http/header-map.ts';
import type { HttpStream } from '../http/stream.ts';
import { headerTest, queryTest } from '../route/matchers.ts';

export interface DescriptorEntry {
  readonly key: string;
  readonly value: string;
}

/** One entry, or undefined: then the whole descriptor is not made. `skip` = the entry alone is left out. */
type Action = (stream: HttpStream) => DescriptorEntry | 'skip' | undefined;

export interface RateLimitActions {
  readonly stage: number;
  /** The descriptor of a request; undefined = these actions make none. */
  descriptor(stream: HttpStream): readonly DescriptorEntry[] | undefined;
}

export function compileRateLimits(messages: readonly RateLimit[], path: string): readonly RateLimitActions[] {
  return messages.map((message, i) => compileRateLimit(message, `${path}[${i}]`));
}

function compileRateLimit(message: RateLimit, path: string): RateLimitActions {
  only(RateLimitSchema, message, path, ['stage', 'actions']);
  if (message.actions.length === 0)
    throw new ConfigError(join(path, 'actions'), 'value must contain at least 1 item(s)');
  const actions = message.actions.map((action, i) => compileAction(action, join(path, `actions[${i}]`)));
  return {
    stage: message.stage ?? 0,
    descriptor(stream) {
      const out: DescriptorEntry[] = [];
      for (const action of actions) {
        const entry = action(stream);
        if (entry === undefined) return undefined;
        if (entry !== 'skip') out.push(entry);
      }
      return out.length === 0 ? undefined : out;
    },
  };
}

function compileAction(message: RateLimit_Action, path: string): Action {
  const { actionSpecifier: spec } = message;
  switch (spec.case) {
    case 'genericKey': {
      only(RateLimit_Action_GenericKeySchema, spec.value, join(path, 'generic_key'), [
        'descriptor_value',
        'descriptor_key',
      ]);
      const entry = { key: spec.value.descriptorKey || 'generic_key', value: spec.value.descriptorValue };
      return () => entry;
    }
    case 'requestHeaders': {
      only(RateLimit_Action_RequestHeadersSchema, spec.value, join(path, 'request_headers'), [
        'header_name',
        'descriptor_key',
        'skip_if_absent',
      ]);
      const { descriptorKey: key, skipIfAbsent } = spec.value;
      const read = headerReader(spec.value.headerName);
      return (stream) => {
        const value = read(stream);
        if (value === undefined || value === '') return skipIfAbsent ? 'skip' : undefined;
        return { key, value };
      };
    }
    case 'remoteAddress':
      return ({ info }) => (info.remote.kind === 'ip' ? { key: 'remote_address', value: info.remote.ip } : undefined);
    case 'maskedRemoteAddress': {
      const at = join(path, 'masked_remote_address');
      only(RateLimit_Action_MaskedRemoteAddressSchema, spec.value, at, ['v4_prefix_mask_len', 'v6_prefix_mask_len']);
      const v4 = spec.value.v4PrefixMaskLen ?? 32;
      const v6 = spec.value.v6PrefixMaskLen ?? 128;
      return ({ info }) => maskedAddress(info.remote.kind === 'ip' ? info.remote.ip : '', v4, v6);
    }
    case 'destinationCluster':
      only(RateLimit_Action_DestinationClusterSchema, spec.value, join(path, 'destination_cluster'), []);
      return ({ choice }) => (choice ? { key: 'destination_cluster', value: choice.name } : undefined);
    default:
      return compileMatch(spec, path);
  }
}

function compileMatch(spec: RateLimit_Action['actionSpecifier'], path: string): Action {
  switch (spec.case) {
    case 'headerValueMatch': {
      const at = join(path, 'header_value_match');
      only(RateLimit_Action_HeaderValueMatchSchema, spec.value, at, [
        'descriptor_value',
        'descriptor_key',
        'expect_match',
        'headers',
      ]);
      const tests = spec.value.headers.map((header, i) => headerTest(header, join(at, `headers[${i}]`)));
      const want = spec.value.expectMatch ?? true;
      const entry = { key: spec.value.descriptorKey || 'header_match', value: spec.value.descriptorValue };
      return (stream) => (tests.every((test) => test(stream)) === want ? entry : undefined);
    }
    case 'queryParameterValueMatch': {
      const at = join(path, 'query_parameter_value_match');
      only(RateLimit_Action_QueryParameterValueMatchSchema, spec.value, at, [
        'descriptor_value',
        'descriptor_key',
        'expect_match',
        'query_parameters',
      ]);
      const tests = spec.value.queryParameters.map((query, i) => queryTest(query, join(at, `query_parameters[${i}]`)));
      const want = spec.value.expectMatch ?? true;
      const entry = { key: spec.value.descriptorKey || 'query_match', value: spec.value.descriptorValue };
      return (stream) => (tests.every((test) => test(stream)) === want ? entry : undefined);
    }
    case 'metadata':
      return metadataAction(spec.value, join(path, 'metadata'));
    default:
      throw new ConfigError(path, `rate limit action '${spec.case ?? 'none'}' is not supported by this proxy`);
  }
}

type MetaDataMessage = Extract<RateLimit_Action['actionSpecifier'], { case: 'metadata' }>['value'];

function metadataAction(message: MetaDataMessage, path: string): Action {
  only(RateLimit_Action_MetaDataSchema, message, path, [
    'descriptor_key',
    'metadata_key',
    'default_value',
    'source',
    'skip_if_absent',
  ]);
  const filter = message.metadataKey?.key ?? '';
  const keys = (message.metadataKey?.path ?? []).map((part) => (part.segment.case === 'key' ? part.segment.value : ''));
  if (filter === '' || keys.length === 0) throw new ConfigError(join(path, 'metadata_key'), 'value is required');
  const ofRoute = message.source === MetaDataSource.ROUTE_ENTRY;
  return (stream) => {
    let value: unknown = ofRoute ? stream.route?.metadata[filter] : stream.info.metadata?.get(filter);
    for (const key of keys)
      value =
        typeof value === 'object' && value !== null && Object.hasOwn(value, key) ? Reflect.get(value, key) : undefined;
    const text = typeof value === 'string' && value !== '' ? value : message.defaultValue;
    if (text === '') return message.skipIfAbsent ? 'skip' : undefined;
    return { key: message.descriptorKey, value: text };
  };
}

function headerReader(name: string): (stream: HttpStream) => string | undefined {
  switch (name.toLowerCase()) {
    case ':path':
      return (stream) => stream.path;
    case ':method':
      return (stream) => stream.method;
    case ':authority':
    case 'host':
      return (stream) => stream.authority;
    default: {
      const header = headerName(name);
      return (stream) => stream.headers.getAll(header);
    }
  }
}

function maskedAddress(ip: string, v4: number, v6: number): DescriptorEntry | undefined {
  const bytes = parseIp(ip);
  if (!bytes) return undefined;
  const bits = bytes.length === 4 ? v4 : v6;
  const masked = bytes.map((byte, i) => byte & (0xff << Math.max(0, Math.min(8, 8 - (bits - 8 * i)))) & 0xff);
  return { key: 'masked_remote_address', value: `${ipText(masked)}/${bits}` };
}
