// Command operators about the request's target: its path, query and host. Used by argument-operators.ts.
import { ConfigError } from '../config/fields.ts';
import type { HeaderName } from '../http/header-map.ts';
import { H } from '../http/names.ts';
import type { StreamInfo } from '../http/stream-info.ts';
import { pathOf } from '../route/path.ts';
import type { ArgumentContext } from './argument-operators.ts';
import type { Operator } from './types.ts';

const some = (value: string): string | undefined => (value === '' ? undefined : value);

/** From before a rewrite, from now, or the first of both that is there. */
function either(which: 'original' | 'current' | 'first', original: HeaderName, current: (info: StreamInfo) => string) {
  return (info: StreamInfo): string | undefined => {
    const before = which === 'current' ? undefined : info.requestHeaders?.get(original);
    return before ?? (which === 'original' ? undefined : some(current(info)));
  };
}

function wanted(given: string, original: string, current: string): 'original' | 'current' | 'first' | undefined {
  if (given === original) return 'original';
  if (given === current) return 'current';
  return given === '' || given === `${original}_OR_${current}` ? 'first' : undefined;
}

export function requestPath({ argument, path }: ArgumentContext): Operator {
  const [query = '', which = ''] = (argument ?? '').split(':');
  if (query !== '' && query !== 'WQ' && query !== 'NQ')
    throw new ConfigError(path, `Invalid PATH option: '${query}', only 'WQ'/'NQ' are allowed`);
  const source = wanted(which, 'ORIG', 'PATH');
  if (!source)
    throw new ConfigError(path, `Invalid PATH option: '${which}', only 'ORIG'/'PATH'/'ORIG_OR_PATH' are allowed`);
  const read = either(source, H.originalPath, (info) => info.path);
  if (query !== 'NQ') return read;
  return (info) => {
    const target = read(info);
    return target === undefined ? undefined : pathOf(target);
  };
}

/** What is no character of a name is not printed; clients send what they like. */
function requestedName(info: StreamInfo): string | undefined {
  const name = info.connection.requestedServerName;
  if (name === '' || /^[\w.-]+$/.test(name)) return some(name);
  return `invalid:${name.replaceAll(/[^\w.-]/g, '_')}`;
}

export function serverName({ argument, path }: ArgumentContext): Operator {
  const [order = '', which = ''] = (argument ?? '').split(':');
  const refuse = (option: string, allowed: string): never => {
    throw new ConfigError(path, `Invalid REQUESTED_SERVER_NAME option: '${option}', only ${allowed} are allowed`);
  };
  if (!['', 'SNI_ONLY', 'SNI_FIRST', 'HOST_FIRST'].includes(order))
    refuse(order, "'SNI_ONLY'/'SNI_FIRST'/'HOST_FIRST'");
  const source = wanted(which, 'ORIG', 'HOST') ?? refuse(which, "'ORIG_OR_HOST'/'HOST'/'ORIG'");
  const host = either(source, H.originalHost, (info) => info.authority);
  if (order === 'SNI_FIRST') return (info) => requestedName(info) ?? host(info);
  if (order === 'HOST_FIRST') return (info) => host(info) ?? requestedName(info);
  return requestedName;
}

export function queryParam({ argument }: { readonly argument: string }): Operator {
  return (info) => parameter(info.path, argument);
}

/** The first of that name, both decoded. */
function parameter(path: string, name: string): string | undefined {
  const mark = path.indexOf('?');
  if (mark < 0) return undefined;
  for (const pair of path.slice(mark + 1).split('&')) {
    const equal = pair.indexOf('=');
    if (decoded(equal < 0 ? pair : pair.slice(0, equal)) === name)
      return equal < 0 ? '' : decoded(pair.slice(equal + 1));
  }
  return undefined;
}

/** Bytes for escapes; what is no escape stays. */
const decoded = (text: string): string =>
  text.includes('%') ? text.replace(/%([0-9a-f]{2})/gi, (_, hex: string) => byteOf(hex)) : text;
const byteOf = (hex: string): string => String.fromCharCode(Number.parseInt(hex, 16));

export function queryParams({ argument, path }: ArgumentContext): Operator {
  const kind = argument ?? '';
  if (!['', 'ORIG', 'DECODED'].includes(kind))
    throw new ConfigError(path, `Invalid QUERY_PARAMS option: '${kind}', only 'ORIG'/'DECODED' are allowed`);
  return (info) => {
    const mark = info.path.indexOf('?');
    if (mark < 0) return undefined;
    const query = info.path.slice(mark + 1);
    return kind === 'DECODED' ? readable(query) : query;
  };
}

/** Printed characters that a query would have escaped for no need; the rest stays escaped. */
const READABLE = /[!#$%&'()*+,\-./0-9:;=?@A-Z[\]_`a-z~]/;

/** A `%` that begins no escape goes, unless it stands at the end. */
function readable(query: string): string {
  return query.replace(/%([0-9a-f]{2})|%(?=..)/gis, (whole: string, hex: string | undefined) => {
    if (hex === undefined) return '';
    const char = byteOf(hex);
    return READABLE.test(char) ? char : whole;
  });
}
