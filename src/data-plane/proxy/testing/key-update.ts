// TLS 1.3 key updates in the middle of connections of the direct transport: its SSL objects are noted as they are made, and a
// test has one of them change its keys and ask the peer for the same. Used by tests of the byte path.
import type { TestContext } from 'node:test';
import { ffi, openssl, type Pointer } from '../transport-socket/openssl/library.ts';

const UPDATE_REQUESTED = 1;

export interface KeyUpdates {
  /** SSL objects that live, oldest first. */
  live(): readonly Pointer[];
  /** The next bytes or read of that side bring its new keys, and the peer must answer. False while it cannot. */
  request(ssl: Pointer): boolean;
}

/** From now to the end of the test. */
export function watchKeyUpdates(t: TestContext): KeyUpdates {
  const library = openssl();
  const { SSL_new, SSL_free } = library;
  const update = ffi().load(null).func('int SSL_key_update(uintptr_t, int)') as (ssl: Pointer, type: number) => number;
  const live = new Set<Pointer>();
  library.SSL_new = (context) => {
    const made = SSL_new(context);
    live.add(made);
    return made;
  };
  library.SSL_free = (ssl) => {
    live.delete(ssl);
    SSL_free(ssl);
  };
  t.after(() => {
    library.SSL_new = SSL_new;
    library.SSL_free = SSL_free;
  });
  return {
    live: () => [...live],
    request(ssl) {
      const asked = update(ssl, UPDATE_REQUESTED) === 1;
      library.ERR_clear_error();
      return asked;
    },
  };
}
