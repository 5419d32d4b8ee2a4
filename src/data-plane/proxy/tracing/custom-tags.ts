// Custom tags of spans: fixed, from the environment, from headers, metadata or a format. Compiled once; read when a span ends.
import {
  type CustomTag,
  type CustomTag_Metadata,
  CustomTagSchema,
} from '#proto/envoy/type/tracing/v3/custom_tag_pb.js';
import { compileFormat, type FormatDeps } from '../access-log/format.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import { headerName, utf8Bytes, utf8Text } from '../http/header-map.ts';
import type { StreamInfo } from '../http/stream-info.ts';
import { metadataValue } from '../route/metadata-match.ts';

export interface TagReader {
  readonly name: string;
  /** Undefined: the span has no such tag. */
  readonly read: (info: StreamInfo) => string | undefined;
}

export function compileTags(messages: readonly CustomTag[], deps: FormatDeps, path: string): readonly TagReader[] {
  return messages.map((message, i) => {
    const at = join(path, `custom_tags[${i}]`);
    only(CustomTagSchema, message, at, ['tag', 'literal', 'environment', 'request_header', 'metadata', 'value']);
    if (message.tag === '') throw new ConfigError(join(at, 'tag'), 'value length must be at least 1 characters');
    return { name: message.tag, read: reader(message, deps, at) };
  });
}

function reader(message: CustomTag, deps: FormatDeps, path: string): TagReader['read'] {
  const { type } = message;
  switch (type.case) {
    case 'literal': {
      const { value } = type.value;
      return () => value;
    }
    case 'environment': {
      const value = deps.variable(type.value.name) || type.value.defaultValue || undefined;
      return () => value;
    }
    case 'requestHeader': {
      const name = headerName(type.value.name);
      const fallback = type.value.defaultValue || undefined;
      return (info) => info.requestHeaders?.get(name) ?? fallback;
    }
    case 'metadata':
      return metadataReader(type.value, join(path, 'metadata'));
    case 'value': {
      const format = compileFormat(utf8Bytes(type.value), join(path, 'value'), '', deps);
      return (info) => utf8Text(format(info)) || undefined;
    }
    case undefined:
      throw new ConfigError(join(path, 'type'), 'value is required');
  }
}

function metadataReader(message: CustomTag_Metadata, path: string): TagReader['read'] {
  const filter = message.metadataKey?.key ?? '';
  if (filter === '') throw new ConfigError(join(path, 'metadata_key.key'), 'value is required');
  const keys = (message.metadataKey?.path ?? []).map(({ segment }) => segment.value ?? '');
  const kind = message.kind?.kind.case;
  const fallback = message.defaultValue || undefined;
  const source = (info: StreamInfo) => {
    switch (kind) {
      case 'request':
        return info.metadata?.get(filter);
      case 'route':
        return info.routeMetadata?.[filter];
      case 'cluster':
        return info.upstreamClusterMetadata?.[filter];
      case 'host':
        return info.upstreamMetadata?.[filter];
      case undefined:
        throw new ConfigError(join(path, 'kind'), 'value is required');
    }
  };
  if (kind === undefined) throw new ConfigError(join(path, 'kind'), 'value is required');
  return (info) => {
    const value = metadataValue(source(info), keys);
    if (value === undefined || value === null) return fallback;
    return typeof value === 'string' ? value : JSON.stringify(value);
  };
}
