// A request as the policy wing sees it. One object serves all requests of a filter: `stream` is set for a decision.
import type { JsonObject } from '@bufbuild/protobuf';
import type { EndPoint, Facts } from '../../../rbac/facts.ts';
import { type HeaderName, headerName, utf8Text } from '../http/header-map.ts';
import type { HttpStream } from '../http/stream.ts';
import { endPoint } from '../rbac/connection-facts.ts';

export class HttpFacts implements Facts {
  stream: HttpStream | undefined;
  readonly http = true;
  readonly #names = new Map<string, HeaderName>();

  get #now(): HttpStream {
    if (!this.stream) throw new Error('facts were asked for outside a decision');
    return this.stream;
  }

  get method(): string {
    return this.#now.method;
  }
  get path(): string {
    return utf8Text(this.#now.path);
  }
  get authority(): string {
    return this.#now.authority;
  }
  get scheme(): string {
    return this.#now.scheme;
  }
  header(name: string): string | readonly string[] | undefined {
    let known = this.#names.get(name);
    if (!known) {
      // Names come from the configuration: their number is bounded by it.
      known = headerName(name);
      this.#names.set(name, known);
    }
    const value = this.#now.headers.getEach(known);
    if (value === undefined) return undefined;
    return typeof value === 'string' ? utf8Text(value) : value.map(utf8Text);
  }
  get destination(): EndPoint {
    return endPoint(this.#now.connection.local);
  }
  get source(): EndPoint {
    return endPoint(this.#now.connection.remote);
  }
  get direct(): EndPoint {
    return endPoint(this.#now.connection.directRemote);
  }
  get remote(): EndPoint {
    return endPoint(this.#now.info.remote);
  }
  get serverName(): string {
    return this.#now.connection.requestedServerName;
  }
  get transportProtocol(): string {
    return this.#now.connection.transportProtocol;
  }
  get applicationProtocols(): readonly string[] {
    return this.#now.connection.alpn;
  }
  get tls(): boolean {
    return this.#now.connection.tls !== undefined;
  }
  get peerVerified(): boolean {
    return this.#now.connection.tls?.peerVerified ?? false;
  }
  get peerUris(): readonly string[] {
    return this.#now.connection.tls?.peerUris ?? [];
  }
  get peerDns(): readonly string[] {
    return this.#now.connection.tls?.peerDns ?? [];
  }
  get peerSubject(): string {
    return this.#now.connection.tls?.peerSubject ?? '';
  }
  metadata(filter: string): JsonObject | undefined {
    return this.#now.info.metadata?.get(filter);
  }
  routeMetadata(filter: string): JsonObject | undefined {
    return this.#now.route?.metadata[filter];
  }
  filterState(key: string): string | undefined {
    const own = this.#now.info.filterState?.get(key);
    if (own !== undefined) return own;
    const shared = this.#now.connection.state.get(key);
    return typeof shared === 'string' ? shared : undefined;
  }
}
