// Destinations of a VirtualService's routes, and the headers they change. Called by virtual-service.ts and virtual-service-l4.ts.
import {
  host as checkHost,
  headerName,
  headerText,
  headerValue,
  integer,
  list,
  object,
  type Reader,
  report,
  text,
  textMap,
  texts,
} from './reader.ts';

export interface HeaderOps {
  readonly set: Readonly<Record<string, string>>;
  readonly add: Readonly<Record<string, string>>;
  readonly remove: readonly string[];
}

export interface Headers {
  readonly request: HeaderOps;
  readonly response: HeaderOps;
}

export interface Destination {
  readonly host: string;
  readonly subset: string;
  readonly port?: number;
  readonly weight: number;
  readonly headers?: Headers;
}

/** Proxies refuse more. */
const MAX_HEADERS = 1000;
const NO_OPS: HeaderOps = { set: {}, add: {}, remove: [] };

export function readDestinations(reader: Reader, value: unknown, path: string): readonly Destination[] {
  const entries = list(reader, value, path);
  const out = entries.map((entry, i): Destination => {
    const at = `${path}[${i}]`;
    const raw = object(reader, entry, at, ['destination', 'weight', 'headers']) ?? {};
    const dest = object(reader, raw.destination, `${at}.destination`, ['host', 'subset', 'port']) ?? {};
    const host = text(reader, dest.host, `${at}.destination.host`) ?? '';
    if (host === '') report(reader, `${at}.destination.host`, 'required', 'destination must have a host');
    else checkHost(reader, host, `${at}.destination.host`);
    const port = object(reader, dest.port, `${at}.destination.port`, ['number']);
    const number = integer(reader, port?.number, `${at}.destination.port.number`, 1, 65535);
    const weight = integer(reader, raw.weight, `${at}.weight`, 0, 2 ** 31 - 1) ?? 0;
    const headers = readHeaders(reader, raw.headers, `${at}.headers`);
    return {
      host,
      subset: text(reader, dest.subset, `${at}.destination.subset`) ?? '',
      weight,
      ...(number !== undefined ? { port: number } : {}),
      ...(headers ? { headers } : {}),
    };
  });
  if (out.length > 1 && out.every((d) => d.weight === 0))
    report(reader, path, 'weight', 'total destination weight = 0');
  return out;
}

export function readHeaders(reader: Reader, value: unknown, path: string): Headers | undefined {
  const raw = object(reader, value, path, ['request', 'response']);
  if (!raw) return undefined;
  const ops = (key: 'request' | 'response'): HeaderOps => {
    const entry = object(reader, raw[key], `${path}.${key}`, ['set', 'add', 'remove']);
    if (!entry) return NO_OPS;
    const out = {
      set: textMap(reader, entry.set, `${path}.${key}.set`) ?? {},
      add: textMap(reader, entry.add, `${path}.${key}.add`) ?? {},
      remove: texts(reader, entry.remove, `${path}.${key}.remove`),
    };
    for (const name of [...Object.keys(out.set), ...Object.keys(out.add), ...out.remove])
      headerName(reader, name, `${path}.${key}`);
    // A host is no format: it becomes a host rewrite.
    if (Object.keys(out.set).length + Object.keys(out.add).length > MAX_HEADERS)
      report(reader, `${path}.${key}`, 'too-many', `${path}.${key} sets and adds more than ${MAX_HEADERS} headers`);
    for (const field of ['set', 'add'] as const)
      for (const [name, value] of Object.entries(out[field]))
        if (/^(?:host|:authority)$/i.test(name)) headerText(reader, value, `${path}.${key}.${field}[${name}]`);
        else headerValue(reader, value, `${path}.${key}.${field}[${name}]`);
    return out;
  };
  return { request: ops('request'), response: ops('response') };
}
