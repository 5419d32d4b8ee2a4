// %XFCC_VALUE(key)%: a value of x-forwarded-client-cert, of the first element that has it. Used by argument-operators.ts.
import { ConfigError } from '../config/fields.ts';
import { H } from '../http/names.ts';
import type { ArgumentContext } from './argument-operators.ts';
import type { Operator } from './types.ts';

const KEYS: ReadonlySet<string> = new Set(['by', 'hash', 'cert', 'chain', 'subject', 'uri', 'dns']);

export function xfccValue({ argument, path }: ArgumentContext): Operator {
  const key = (argument ?? '').toLowerCase();
  if (key === '') throw new ConfigError(path, 'XFCC_VALUE command requires a subcommand');
  if (!KEYS.has(key)) throw new ConfigError(path, `XFCC_VALUE command does not support subcommand: ${key}`);
  return (info) => {
    const header = info.requestHeaders?.getAll(H.xfcc);
    return header === undefined ? undefined : xfccPart(header, key);
  };
}

/**
 * One pass: `;` ends a pair and `,` an element unless they stand between quotes. An element whose quotes are left open says
 * nothing.
 */
export function xfccPart(header: string, key: string): string | undefined {
  let start = 0;
  let quoted = false;
  let slashes = 0;
  let found: string | undefined;
  for (let at = 0; at <= header.length; at++) {
    const char = header[at];
    if (char === '"' && slashes % 2 === 0) quoted = !quoted;
    else if (!quoted && (char === ';' || char === ',' || char === undefined)) {
      found ??= pairValue(header.slice(start, at), key);
      if (found !== undefined && char !== ';') return found;
      start = at + 1;
    }
    slashes = char === '\\' ? slashes + 1 : 0;
  }
  return undefined;
}

function pairValue(pair: string, key: string): string | undefined {
  const equal = pair.indexOf('=');
  const name = equal < 0 ? pair : pair.slice(0, equal);
  if (name.trim().toLowerCase() !== key) return undefined;
  const value = equal < 0 ? '' : pair.slice(equal + 1).trim();
  const bare = value.length >= 2 && value.startsWith('"') && value.endsWith('"') ? value.slice(1, -1) : value;
  return bare.replace(/\\(["\\])/g, '$1');
}
