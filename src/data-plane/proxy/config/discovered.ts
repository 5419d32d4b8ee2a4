// Extensions whose configuration comes later (ECDS): the same rules for filters of all kinds. Called by the registries of HTTP,
// network and listener filters.
import type { Any } from '@bufbuild/protobuf/wkt';
import {
  type ExtensionConfigSource,
  ExtensionConfigSourceSchema,
} from '#proto/envoy/config/core/v3/config_source_pb.js';
import type { Live } from '../transport-socket/secrets.ts';
import { openAny, typeNameOf } from './any.ts';
import { ConfigError, join, only } from './fields.ts';

/** What is configured, by Envoy's names in statistics. */
export type ExtensionCategory = 'http_filter' | 'network_filter' | 'tcp_listener_filter';

/** Something made from a discovered configuration. */
export interface Discovered<T> {
  readonly live: Live<T>;
  release(): void;
}

/** Extension configurations by name; xds/ecds.ts. */
export interface ExtensionProvider {
  /**
   * `build` makes the extension from a configuration, and refuses it with a ConfigError; what it made is disposed when the
   * next one takes its place. Throws ConfigError when the source cannot be used.
   */
  subscribe<T extends { dispose?(): void }>(
    category: ExtensionCategory,
    name: string,
    source: ExtensionConfigSource,
    build: (any: Any) => T,
    path: string,
  ): Discovered<T>;
}

/** Throws ConfigError when the source cannot be used. */
export function discover<T extends { dispose?(): void }>(
  category: ExtensionCategory,
  name: string,
  source: ExtensionConfigSource,
  provider: ExtensionProvider,
  build: (any: Any) => T,
  path: string,
): Discovered<T> {
  only(ExtensionConfigSourceSchema, source, path, [
    'config_source',
    'default_config',
    'apply_default_config_without_warming',
    'type_urls',
  ]);
  if (source.typeUrls.length === 0)
    throw new ConfigError(join(path, 'type_urls'), 'value must contain at least 1 item');
  if (source.applyDefaultConfigWithoutWarming && !source.defaultConfig)
    throw new ConfigError(path, 'apply_default_config_without_warming needs a default_config');
  const allowed = new Set(source.typeUrls.map(typeNameOf));
  const checked = (any: Any): T => {
    const type = openAny(any, name).typeName;
    if (!allowed.has(type))
      throw new ConfigError('', `Error: filter config has type URL ${type} but expect ${[...allowed].join(', ')}.`);
    return build(any);
  };
  return provider.subscribe(category, name, source, checked, path);
}
