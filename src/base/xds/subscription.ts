// What one stream watches of one type, and whether a request needs an answer (xds.md §4.2, §4.3).
// Pure bookkeeping: the server (control-plane/serve) feeds it every request and every response it sends.
import { isWildcardType } from './type-urls.ts';

/** Names one stream may watch of one type; a request over it ends the stream. */
export const MAX_WATCHED_NAMES = 50_000;

export interface Watch {
  readonly typeUrl: string;
  wildcard: boolean;
  names: Set<string>;
  nonceSent: string;
  nonceAcked: string;
  lastError: string;
  /** Set after CDS was answered on a new stream: the next matching request is answered in full so that warming ends. */
  alwaysRespond: boolean;
  lastSentMs: number;
}

export type Answer =
  | { readonly kind: 'none'; readonly why: 'ack' | 'nack' | 'stale' | 'unsubscribed' }
  /** `names` undefined: everything that is watched. */
  | { readonly kind: 'respond'; readonly names?: readonly string[]; readonly first: boolean };

export interface SotwRequest {
  readonly typeUrl: string;
  readonly names: readonly string[];
  readonly nonce: string;
  readonly error?: string;
}

export interface DeltaRequest {
  readonly typeUrl: string;
  readonly subscribe: readonly string[];
  readonly unsubscribe: readonly string[];
  readonly initial: readonly string[];
  readonly nonce: string;
  readonly error?: string;
}

export class TooManyNames extends Error {}

export type Watches = Map<string, Watch>;

function newWatch(typeUrl: string, wildcard: boolean, names: Iterable<string>): Watch {
  return {
    typeUrl,
    wildcard,
    names: new Set(names),
    nonceSent: '',
    nonceAcked: '',
    lastError: '',
    alwaysRespond: false,
    lastSentMs: 0,
  };
}

function checkSize(size: number, typeUrl: string): void {
  if (size > MAX_WATCHED_NAMES)
    throw new TooManyNames(`${size} names of ${typeUrl}; the limit is ${MAX_WATCHED_NAMES}`);
}

/** Updates `watches` and says whether to answer. Throws {@link TooManyNames}. */
export function onSotwRequest(watches: Watches, request: SotwRequest): Answer {
  checkSize(request.names.length, request.typeUrl);
  const watch = watches.get(request.typeUrl);
  if (request.error !== undefined) {
    if (watch) watch.lastError = request.error;
    return { kind: 'none', why: 'nack' };
  }
  if (request.names.length === 0 && !isWildcardType(request.typeUrl)) {
    watches.delete(request.typeUrl);
    return { kind: 'none', why: 'unsubscribed' };
  }
  if (!watch || request.nonce === '') {
    const fresh = newWatch(request.typeUrl, isWildcardType(request.typeUrl), request.names);
    watches.set(request.typeUrl, fresh);
    return { kind: 'respond', first: true };
  }
  if (request.nonce !== watch.nonceSent) return { kind: 'none', why: 'stale' };
  watch.nonceAcked = request.nonce;
  watch.lastError = '';
  const before = watch.names;
  watch.names = new Set(request.names);
  if (watch.alwaysRespond) {
    watch.alwaysRespond = false;
    return { kind: 'respond', first: false };
  }
  const added = request.names.filter((n) => !before.has(n));
  if (added.length > 0) return { kind: 'respond', names: added, first: false };
  if (isWildcardType(request.typeUrl) && watch.names.size < before.size) return { kind: 'respond', first: false };
  return { kind: 'none', why: 'ack' };
}

/** Updates `watches` and says whether to answer. Throws {@link TooManyNames}. */
export function onDeltaRequest(watches: Watches, request: DeltaRequest): Answer {
  const watch = watches.get(request.typeUrl);
  if (request.error !== undefined) {
    if (watch) watch.lastError = request.error;
    return { kind: 'none', why: 'nack' };
  }
  if (!watch) return firstDelta(watches, request);
  if (request.nonce !== '' && request.nonce !== watch.nonceSent) return { kind: 'none', why: 'stale' };
  if (request.nonce !== '') {
    watch.nonceAcked = request.nonce;
    watch.lastError = '';
  }
  const added: string[] = [];
  let everything = false;
  for (const name of request.subscribe) {
    if (name === '*') everything = !watch.wildcard || request.nonce === '';
    else {
      // Asking again for a resource that was already sent must send it again.
      if (!watch.names.has(name) || request.nonce === '') added.push(name);
      watch.names.add(name);
    }
  }
  if (everything) watch.wildcard = true;
  for (const name of request.unsubscribe) {
    if (name === '*') {
      watch.wildcard = false;
      everything = false;
    } else watch.names.delete(name);
  }
  checkSize(watch.names.size, request.typeUrl);
  if (watch.alwaysRespond) {
    watch.alwaysRespond = false;
    return { kind: 'respond', first: false };
  }
  if (everything) return { kind: 'respond', first: false };
  if (added.length > 0) return { kind: 'respond', names: added, first: false };
  return { kind: 'none', why: 'ack' };
}

function firstDelta(watches: Watches, request: DeltaRequest): Answer {
  const names = new Set([...request.subscribe, ...request.initial]);
  const wildcard = isWildcardType(request.typeUrl) && (request.subscribe.length === 0 || names.has('*'));
  names.delete('*');
  let nothing = false;
  for (const name of request.unsubscribe) {
    if (name === '*') nothing = true;
    names.delete(name);
  }
  checkSize(names.size, request.typeUrl);
  watches.set(request.typeUrl, newWatch(request.typeUrl, wildcard && !nothing, names));
  return nothing && names.size === 0 ? { kind: 'none', why: 'unsubscribed' } : { kind: 'respond', first: true };
}

export function recordSent(watch: Watch, nonce: string, nowMs: number): void {
  watch.nonceSent = nonce;
  watch.lastSentMs = nowMs;
}
