// Matchers over dynamic metadata and filter state. Used by routes and access log filters.
import type { JsonObject, JsonValue } from '@bufbuild/protobuf';
import { type FilterStateMatcher, FilterStateMatcherSchema } from '#proto/envoy/type/matcher/v3/filter_state_pb.js';
import { type MetadataMatcher, MetadataMatcherSchema } from '#proto/envoy/type/matcher/v3/metadata_pb.js';
import { type ValueMatcher, ValueMatcherSchema } from '#proto/envoy/type/matcher/v3/value_pb.js';
import { ConfigError, join, only } from '../config/fields.ts';
import { stringTest } from '../config/matchers.ts';
import type { StreamInfo } from '../http/stream-info.ts';

export type StreamTest = (info: StreamInfo) => boolean;
type ValueTest = (value: JsonValue | undefined) => boolean;

/** `missing`: what a path that leads nowhere means (inversion then has no say); undefined = the matcher decides. */
export function metadataTest(message: MetadataMatcher, path: string, missing?: boolean): StreamTest {
  only(MetadataMatcherSchema, message, path, ['filter', 'path', 'value', 'invert']);
  const keys = message.path.map(({ segment }, i) => {
    if (segment.case !== 'key') throw new ConfigError(join(path, `path[${i}]`), 'value is required');
    return segment.value;
  });
  if (keys.length === 0) throw new ConfigError(join(path, 'path'), 'value must contain at least 1 item(s)');
  if (!message.value) throw new ConfigError(join(path, 'value'), 'value is required');
  const test = valueTest(message.value, join(path, 'value'));
  const { filter, invert } = message;
  return (info) => {
    const value = metadataValue(info.metadata?.get(filter), keys);
    if (value === undefined && missing !== undefined) return missing;
    return test(value) !== invert;
  };
}

/** Follows `keys` into a structure. */
export function metadataValue(struct: JsonObject | undefined, keys: readonly string[]): JsonValue | undefined {
  let value: JsonValue | undefined = struct;
  for (const key of keys) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
    value = Object.hasOwn(value, key) ? value[key] : undefined;
  }
  return value;
}

function valueTest(message: ValueMatcher, path: string): ValueTest {
  only(ValueMatcherSchema, message, path, [
    'null_match',
    'double_match',
    'string_match',
    'bool_match',
    'present_match',
    'list_match',
    'or_match',
  ]);
  const pattern = message.matchPattern;
  switch (pattern.case) {
    case 'nullMatch':
      return (value) => value === null;
    case 'doubleMatch': {
      const spec = pattern.value.matchPattern;
      if (spec.case === 'exact') return (value) => value === spec.value;
      if (spec.case === 'range')
        return (value) => typeof value === 'number' && value >= spec.value.start && value < spec.value.end;
      throw new ConfigError(join(path, 'double_match'), 'value is required');
    }
    case 'stringMatch': {
      const test = stringTest(pattern.value, join(path, 'string_match'));
      return (value) => typeof value === 'string' && test(value);
    }
    case 'boolMatch':
      return (value) => value === pattern.value;
    case 'presentMatch':
      return (value) => (value !== undefined && value !== null) === pattern.value;
    case 'listMatch': {
      const one = pattern.value.matchPattern.value;
      if (!one) throw new ConfigError(join(path, 'list_match.one_of'), 'value is required');
      const test = valueTest(one, join(path, 'list_match.one_of'));
      return (value) => Array.isArray(value) && value.some(test);
    }
    case 'orMatch': {
      const tests = pattern.value.valueMatchers.map((entry, i) =>
        valueTest(entry, join(path, `or_match.value_matchers[${i}]`)),
      );
      return (value) => tests.some((test) => test(value));
    }
    default:
      throw new ConfigError(path, 'value is required');
  }
}

export function filterStateTest(message: FilterStateMatcher, path: string): StreamTest {
  only(FilterStateMatcherSchema, message, path, ['key', 'string_match']);
  if (message.matcher.case !== 'stringMatch') throw new ConfigError(join(path, 'string_match'), 'value is required');
  const test = stringTest(message.matcher.value, join(path, 'string_match'));
  const { key } = message;
  return (info) => {
    const value = filterStateText(info, key);
    return value !== undefined && test(value);
  };
}

/** Keys of the filter state that filters of ours leave. */
export const CLUSTER_STATE = 'envoy.tcp_proxy.cluster';
export const GRPC_STATS_STATE = 'envoy.filters.http.grpc_stats';

/** State of the request, else of its connection, that has a text. */
export function filterStateText(info: StreamInfo, key: string): string | undefined {
  const own = info.filterState?.get(key);
  if (own !== undefined) return own;
  const shared = info.connection.state.get(key);
  return typeof shared === 'string' ? shared : undefined;
}
