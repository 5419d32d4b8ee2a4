// Reading a request's cookies and making one for a hash policy. Used by route matches and hash policies.
import type { HeaderMap } from '../http/header-map.ts';
import { headerName } from '../http/header-map.ts';

const COOKIE = headerName('cookie');

/** The value of the first cookie called `name`; quotes around it go. */
export function cookieValue(headers: HeaderMap, name: string): string | undefined {
  if (!headers.has(COOKIE)) return undefined;
  let found: string | undefined;
  headers.forEach((header, text) => {
    if (found === undefined && header.toLowerCase() === 'cookie') found = inPairs(text, name);
  });
  return found;
}

function inPairs(text: string, name: string): string | undefined {
  for (const pair of text.split(';')) {
    const equal = pair.indexOf('=');
    if (equal < 0 || pair.slice(0, equal).trim() !== name) continue;
    const value = pair.slice(equal + 1).trim();
    return value.length >= 2 && value.startsWith('"') && value.endsWith('"') ? value.slice(1, -1) : value;
  }
  return undefined;
}

export interface CookieShape {
  readonly name: string;
  readonly path: string;
  /** Seconds; 0 = a session cookie. */
  readonly maxAgeS: number;
  readonly attributes: readonly { readonly name: string; readonly value: string }[];
}

/** The value of a Set-Cookie header. */
export function setCookie(shape: CookieShape, value: string): string {
  let out = `${shape.name}="${value}"`;
  if (shape.maxAgeS > 0) out += `; Max-Age=${shape.maxAgeS}`;
  if (shape.path !== '') out += `; Path=${shape.path}`;
  for (const { name, value: text } of shape.attributes) out += text === '' ? `; ${name}` : `; ${name}=${text}`;
  return `${out}; HttpOnly`;
}
