// The texts a condition can ask for, each with a name that makes two conditions on the same text comparable: the index
// and the grouping of lists work by it.
import type { JsonObject, JsonValue } from '@bufbuild/protobuf';
import type { Facts } from './facts.ts';

export interface Attribute {
  /** Equal for attributes that read the same. */
  readonly key: string;
  /** All values; undefined = there is none, which never matches. */
  read(facts: Facts): string | readonly string[] | undefined;
}

const SEPARATOR = '\0';

export const PATH: Attribute = {
  key: 'url path',
  read: (facts) => (facts.http ? pathOnly(facts.path) : undefined),
};

/** Every name the peer proved; without a checked certificate there is only the empty subject. */
export const PRINCIPAL: Attribute = {
  key: 'principal',
  read(facts) {
    if (!facts.tls) return undefined;
    if (!facts.peerVerified) return '';
    if (facts.peerUris.length === 1 && facts.peerDns.length === 0 && facts.peerSubject === '') return facts.peerUris[0];
    return [...facts.peerUris, ...facts.peerDns, facts.peerSubject];
  },
};

export const SERVER_NAME: Attribute = { key: 'server name', read: (facts) => facts.serverName };

export const PORT: Attribute = { key: 'destination port', read: (facts) => String(facts.destination.port) };

/** A repeated header matches when one of its values does, as in current Envoy: joined values could be forged past a rule. */
export function headerAttribute(name: string, missingIsEmpty: boolean): Attribute {
  const lower = name.toLowerCase();
  const read = headerReader(lower);
  if (!missingIsEmpty) return { key: `header ${lower}`, read };
  return { key: `header ${lower} or empty`, read: (facts) => (facts.http ? (read(facts) ?? '') : undefined) };
}

function headerReader(name: string): Attribute['read'] {
  switch (name) {
    case ':method':
      return (facts) => (facts.http ? facts.method : undefined);
    case ':path':
      return (facts) => (facts.http ? facts.path : undefined);
    case ':scheme':
      return (facts) => (facts.http ? facts.scheme : undefined);
    case ':authority':
    case 'host':
      return (facts) => (facts.http && facts.authority !== '' ? facts.authority : undefined);
    default:
      return (facts) => (facts.http ? facts.header(name) : undefined);
  }
}

export function filterStateAttribute(key: string): Attribute {
  return { key: `filter state ${key}`, read: (facts) => facts.filterState(key) };
}

/** A string in metadata, or (`list`) the strings of a list there. */
export function metadataAttribute(
  source: 'dynamic' | 'route',
  filter: string,
  path: readonly string[],
  list: boolean,
): Attribute {
  return {
    key: `${source} metadata ${[filter, ...path].join(SEPARATOR)}${list ? ' list' : ''}`,
    read(facts) {
      const value = metadataValue(facts, source, filter, path);
      if (!list) return typeof value === 'string' ? value : undefined;
      if (!Array.isArray(value)) return undefined;
      return value.filter((entry): entry is string => typeof entry === 'string');
    },
  };
}

export function metadataValue(
  facts: Facts,
  source: 'dynamic' | 'route',
  filter: string,
  path: readonly string[],
): JsonValue | undefined {
  let value: JsonValue | undefined = source === 'dynamic' ? facts.metadata(filter) : facts.routeMetadata(filter);
  for (const key of path) {
    if (!isObject(value) || !Object.hasOwn(value, key)) return undefined;
    value = value[key];
  }
  return value;
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Without query and fragment. */
export function pathOnly(path: string): string {
  const query = path.indexOf('?');
  const end = query < 0 ? path.length : query;
  const hash = path.indexOf('#');
  return path.slice(0, hash >= 0 && hash < end ? hash : end);
}
