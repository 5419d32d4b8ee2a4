// Path normalization of the connection manager: dot segments, backslashes, escaped slashes, merged slashes.
import { pathOf } from '../route/path.ts';

export interface PathSettings {
  readonly normalize: boolean;
  readonly mergeSlashes: boolean;
  readonly escapedSlashes: 'keep' | 'reject' | 'redirect' | 'forward';
}

export type NormalizedPath =
  | { readonly kind: 'ok'; readonly path: string }
  | { readonly kind: 'reject' }
  | { readonly kind: 'redirect'; readonly path: string };

const NEEDS_WORK = /["%<>\\^`{|}\u0080-\u00ff]|\/\.|\/\//;

/** `target` is a path with its query; the query is never changed. */
export function normalizePath(target: string, settings: PathSettings): NormalizedPath {
  if (!NEEDS_WORK.test(target)) return { kind: 'ok', path: target };
  const bare = pathOf(target);
  const query = target.slice(bare.length);
  let path = bare;
  if (settings.normalize) {
    if (/%00/.test(path)) return { kind: 'reject' };
    path = removeDots(encodeForbidden(decodeUnreserved(path)).replaceAll('\\', '/'));
    if (path === '') return { kind: 'reject' };
  }
  let redirect = false;
  if (settings.escapedSlashes !== 'keep' && /%(2f|5c)/i.test(path)) {
    if (settings.escapedSlashes === 'reject') return { kind: 'reject' };
    path = path.replaceAll(/%2f/gi, '/').replaceAll(/%5c/gi, '\\');
    if (settings.normalize) path = removeDots(path.replaceAll('\\', '/'));
    redirect = settings.escapedSlashes === 'redirect';
  }
  if (settings.mergeSlashes) path = path.replaceAll(/\/{2,}/g, '/');
  return redirect ? { kind: 'redirect', path: path + query } : { kind: 'ok', path: path + query };
}

/** Escapes of letters, digits, `-`, `.`, `_`, `~` mean the characters themselves (RFC 3986 §6.2.2.2). */
function decodeUnreserved(path: string): string {
  return path.replaceAll(/%([0-9a-fA-F]{2})/g, (whole, hex: string) => {
    const char = String.fromCharCode(Number.parseInt(hex, 16));
    return /[A-Za-z0-9\-._~]/.test(char) ? char : whole;
  });
}

/** What stands in no path as it is: else a policy would have to know two spellings of one path. */
function encodeForbidden(path: string): string {
  return path.replaceAll(/["<>^`{|}\u0080-\u00ff]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
}

/** Servers that know path parameters read `..;x` as `..`, and a policy must see what they do. */
const PARENT = /^\.\.(?:;|$)/;
const HERE = /^\.(?:;|$)/;

/** Dot segments are resolved, also those with parameters; empty segments stay. */
function removeDots(path: string): string {
  const out: string[] = [];
  const parts = path.split('/');
  for (const [i, part] of parts.entries()) {
    const last = i === parts.length - 1;
    if (HERE.test(part)) {
      if (last) out.push('');
    } else if (PARENT.test(part)) {
      if (out.length > 1) out.pop();
      if (last) out.push('');
    } else out.push(part);
  }
  return out.join('/');
}
