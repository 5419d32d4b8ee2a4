// Sessions an upstream TLS context can resume, newest first, for each host and server name. Forgotten together when any
// secret of the context changes, and one by one when a certificate they stand on expires. Owned by tls-context.ts.
import { MAX_CLIENT_SESSIONS, MAX_SESSION_KEYS } from '../limits.ts';
import type { PeerCertificate } from './peer-certificate.ts';

export interface ClientSession {
  readonly bytes: Buffer;
  /** Who answered when the session was made: nobody shows a certificate when it is taken up again. */
  readonly peer: PeerCertificate | undefined;
  /** ms since the epoch. */
  readonly until: number;
  /** A TLS 1.3 ticket is used for one connection only (RFC 8446 appendix C.4). */
  readonly once: boolean;
}

export class ClientSessions {
  readonly #perHost: number;
  readonly #byHost = new Map<string, ClientSession[]>();
  #count = 0;

  /** `keys`: max_session_keys; 0 = no resumption. */
  constructor(keys: number) {
    this.#perHost = Math.min(keys, MAX_SESSION_KEYS);
  }

  get enabled(): boolean {
    return this.#perHost > 0;
  }

  get size(): number {
    return this.#count;
  }

  put(host: string, session: ClientSession): void {
    if (!this.enabled) return;
    let list = this.#byHost.get(host);
    if (!list) {
      list = [];
      this.#byHost.set(host, list);
    }
    list.unshift(session);
    this.#count += 1;
    if (list.length > this.#perHost) {
      list.pop();
      this.#count -= 1;
    }
    while (this.#count > MAX_CLIENT_SESSIONS) this.#dropOldestHost();
  }

  /** The newest session that is still good. */
  take(host: string, now: number): ClientSession | undefined {
    const list = this.#byHost.get(host);
    while (list && list.length > 0) {
      const entry = list[0]!;
      const good = now < entry.until;
      if (!good || entry.once) {
        list.shift();
        this.#count -= 1;
        if (list.length === 0) this.#byHost.delete(host);
      }
      if (good) return entry;
    }
    return undefined;
  }

  clear(): void {
    this.#byHost.clear();
    this.#count = 0;
  }

  #dropOldestHost(): void {
    const first = this.#byHost.entries().next().value;
    if (!first) return;
    this.#count -= first[1].length;
    this.#byHost.delete(first[0]);
  }
}
