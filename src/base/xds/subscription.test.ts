// The tables of xds.md §4.2 and §4.3, row by row.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type DeltaRequest,
  MAX_WATCHED_NAMES,
  onDeltaRequest,
  onSotwRequest,
  recordSent,
  type SotwRequest,
  TooManyNames,
  type Watch,
  type Watches,
} from './subscription.ts';
import { TYPE_URL } from './type-urls.ts';

const sotw = (init: Partial<SotwRequest>): SotwRequest => ({
  typeUrl: TYPE_URL.endpoint,
  names: [],
  nonce: '',
  ...init,
});
const delta = (init: Partial<DeltaRequest>): DeltaRequest => ({
  typeUrl: TYPE_URL.endpoint,
  subscribe: [],
  unsubscribe: [],
  initial: [],
  nonce: '',
  ...init,
});
const watchOf = (watches: Watches, typeUrl: string): Watch => {
  const watch = watches.get(typeUrl);
  assert.ok(watch);
  return watch;
};

/** A stream that watches a and b and was sent nonce n1. */
function watching(typeUrl: string = TYPE_URL.endpoint, names = ['a', 'b']): Watches {
  const watches: Watches = new Map();
  assert.deepEqual(onSotwRequest(watches, sotw({ typeUrl, names })), { kind: 'respond', first: true });
  recordSent(watchOf(watches, typeUrl), 'n1', 1);
  return watches;
}

test('SotW: an error is a NACK, gets no answer and is remembered', () => {
  const watches = watching();
  assert.deepEqual(onSotwRequest(watches, sotw({ names: ['a'], nonce: 'n1', error: 'bad' })), {
    kind: 'none',
    why: 'nack',
  });
  assert.equal(watchOf(watches, TYPE_URL.endpoint).lastError, 'bad');
  assert.equal(watchOf(watches, TYPE_URL.endpoint).nonceAcked, '');
});

test('SotW: no names ends a subscription by name, also as the first request', () => {
  const watches = watching();
  assert.deepEqual(onSotwRequest(watches, sotw({ nonce: 'n1' })), { kind: 'none', why: 'unsubscribed' });
  assert.equal(watches.size, 0);
  assert.equal(onSotwRequest(new Map(), sotw({})).kind, 'none');
  assert.equal(onSotwRequest(new Map(), sotw({ typeUrl: TYPE_URL.cluster })).kind, 'respond');
});

test('SotW: a stale nonce is ignored, a matching one acknowledges', () => {
  const watches = watching();
  assert.deepEqual(onSotwRequest(watches, sotw({ names: ['a', 'b'], nonce: 'n0' })), { kind: 'none', why: 'stale' });
  assert.deepEqual(onSotwRequest(watches, sotw({ names: ['a', 'b'], nonce: 'n1' })), { kind: 'none', why: 'ack' });
  assert.equal(watchOf(watches, TYPE_URL.endpoint).nonceAcked, 'n1');
});

test('SotW: only added names are answered, removed ones are not', () => {
  const watches = watching();
  assert.deepEqual(onSotwRequest(watches, sotw({ names: ['a', 'b', 'c'], nonce: 'n1' })), {
    kind: 'respond',
    names: ['c'],
    first: false,
  });
  assert.deepEqual(onSotwRequest(watches, sotw({ names: ['c'], nonce: 'n1' })), { kind: 'none', why: 'ack' });
});

test('SotW: a request without nonce starts anew; the always-respond flag answers once', () => {
  const watches = watching();
  watchOf(watches, TYPE_URL.endpoint).alwaysRespond = true;
  assert.equal(onSotwRequest(watches, sotw({ names: ['a', 'b'], nonce: 'n1' })).kind, 'respond');
  assert.equal(onSotwRequest(watches, sotw({ names: ['a', 'b'], nonce: 'n1' })).kind, 'none');
  assert.deepEqual(onSotwRequest(watches, sotw({ names: ['a'] })), { kind: 'respond', first: true });
});

test('delta: the first request answers subscribe and initial names without the unsubscribed', () => {
  const watches: Watches = new Map();
  const first = delta({ subscribe: ['a'], initial: ['b', 'c'], unsubscribe: ['c'] });
  assert.deepEqual(onDeltaRequest(watches, first), { kind: 'respond', first: true });
  assert.deepEqual([...watchOf(watches, TYPE_URL.endpoint).names], ['a', 'b']);
});

test('delta: clusters and listeners are everything when nothing or * is named', () => {
  for (const subscribe of [[], ['*']]) {
    const watches: Watches = new Map();
    onDeltaRequest(watches, delta({ typeUrl: TYPE_URL.cluster, subscribe, initial: ['x'] }));
    assert.equal(watchOf(watches, TYPE_URL.cluster).wildcard, true);
  }
  const nothing: Watches = new Map();
  const both = delta({ typeUrl: TYPE_URL.nameTable, subscribe: ['*'], unsubscribe: ['*'] });
  assert.equal(onDeltaRequest(nothing, both).kind, 'none');
  assert.equal(watchOf(nothing, TYPE_URL.nameTable).wildcard, false);
});

test('delta: later requests answer only new names; unsubscribing says nothing', () => {
  const watches: Watches = new Map();
  onDeltaRequest(watches, delta({ subscribe: ['a'] }));
  recordSent(watchOf(watches, TYPE_URL.endpoint), 'n1', 1);
  assert.deepEqual(onDeltaRequest(watches, delta({ nonce: 'n1' })), { kind: 'none', why: 'ack' });
  assert.deepEqual(onDeltaRequest(watches, delta({ subscribe: ['b'] })), {
    kind: 'respond',
    names: ['b'],
    first: false,
  });
  assert.deepEqual(onDeltaRequest(watches, delta({ unsubscribe: ['b'] })), { kind: 'none', why: 'ack' });
  assert.deepEqual(onDeltaRequest(watches, delta({ nonce: 'old', subscribe: ['z'] })), { kind: 'none', why: 'stale' });
  assert.deepEqual([...watchOf(watches, TYPE_URL.endpoint).names], ['a']);
});

test('delta: asking again for a name answers again', () => {
  const watches: Watches = new Map();
  onDeltaRequest(watches, delta({ subscribe: ['a'] }));
  assert.deepEqual(onDeltaRequest(watches, delta({ subscribe: ['a'] })), {
    kind: 'respond',
    names: ['a'],
    first: false,
  });
});

test('a hostile number of names is refused', () => {
  const names = Array.from({ length: MAX_WATCHED_NAMES + 1 }, (_, i) => String(i));
  assert.throws(() => onSotwRequest(new Map(), sotw({ names })), TooManyNames);
  assert.throws(() => onDeltaRequest(new Map(), delta({ subscribe: names })), TooManyNames);
});
