// envoy.filters.http.set_metadata: puts fixed dynamic metadata on every request, for policies, limits and logs behind it.
import type { JsonObject, JsonValue } from '@bufbuild/protobuf';
import {
  type Config,
  ConfigSchema,
  MetadataSchema,
} from '#proto/envoy/extensions/filters/http/set_metadata/v3/set_metadata_pb.js';
import { ConfigError, join, only } from '../config/fields.ts';
import type { HttpFilter } from './filter.ts';

interface Entry {
  readonly namespace: string;
  readonly overwrite: boolean;
  readonly value: JsonObject;
}

export function createSetMetadataFilter(message: Config, context: { readonly name: string }, path: string): HttpFilter {
  only(ConfigSchema, message, path, ['metadata_namespace', 'value', 'metadata']);
  const entries = message.metadata.map((entry, i): Entry => {
    const at = join(path, `metadata[${i}]`);
    only(MetadataSchema, entry, at, ['metadata_namespace', 'allow_overwrite', 'value']);
    if (entry.metadataNamespace === '') throw new ConfigError(join(at, 'metadata_namespace'), 'value is required');
    if (!entry.value) throw new ConfigError(join(at, 'value'), 'value is required');
    return { namespace: entry.metadataNamespace, overwrite: entry.allowOverwrite, value: entry.value };
  });
  // The old form merges with what is there.
  if (message.value) {
    if (message.metadataNamespace === '') throw new ConfigError(join(path, 'metadata_namespace'), 'value is required');
    entries.unshift({ namespace: message.metadataNamespace, overwrite: true, value: message.value });
  }
  return {
    name: context.name,
    onRequest({ info }) {
      for (const { namespace, overwrite, value } of entries) {
        const before = info.metadata?.get(namespace);
        if (before && !overwrite) continue;
        info.addMetadata(namespace, before ? (merge(before, value) as JsonObject) : value);
      }
      return 'continue';
    },
  };
}

/** Objects merge, lists join, everything else is replaced. */
function merge(before: JsonValue | undefined, value: JsonValue): JsonValue {
  if (Array.isArray(before) && Array.isArray(value)) return [...before, ...value];
  if (!isObject(before) || !isObject(value)) return value;
  const out: JsonObject = { ...before };
  for (const [key, entry] of Object.entries(value)) out[key] = merge(before[key], entry);
  return out;
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
