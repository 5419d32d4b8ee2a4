// The statistics of tls_inspector and http_inspector, one set for all listeners. Added to by listeners after the look at the first
// bytes.
import type { StatsStore } from '../stats/stats.ts';
import type { HelloFault, Inspection } from './inspect.ts';

/** Made for the first inspector of each kind. */
export class InspectorCounters {
  readonly #stats: StatsStore;
  #tls: ReturnType<typeof tlsCounters> | undefined;
  #http: ReturnType<typeof httpCounters> | undefined;

  constructor(stats: StatsStore) {
    this.#stats = stats;
  }

  /** There are inspectors of these kinds. */
  prepare(tls: boolean, http: boolean): void {
    if (tls) this.#tls ??= tlsCounters(this.#stats);
    if (http) this.#http ??= httpCounters(this.#stats);
  }

  /** tls_inspector has refused a connection. */
  refused(fault: HelloFault): void {
    this.prepare(true, false);
    const tls = this.#tls!;
    (fault === 'ClientHelloTooLarge' ? tls.tooLarge : tls.notFound).value += 1;
  }

  /** What the inspectors that ran have found. */
  found(result: Inspection, lookedForTls: boolean, lookedForHttp: boolean): void {
    this.prepare(lookedForTls, lookedForHttp);
    const isTls = result.transportProtocol === 'tls';
    const tls = this.#tls;
    if (tls && lookedForTls) {
      (isTls ? tls.found : tls.notFound).value += 1;
      if (isTls) {
        (result.alpn.length > 0 ? tls.alpn : tls.noAlpn).value += 1;
        (result.serverName === '' ? tls.noSni : tls.sni).value += 1;
      }
      tls.bytes.record(isTls ? (result.bytes?.length ?? 0) : 0);
    }
    // Where TLS was found nobody looks for HTTP.
    const http = this.#http;
    if (!http || !lookedForHttp || isTls) return;
    const [protocol = ''] = result.alpn;
    (http[protocol] ?? http.none!).value += 1;
  }
}

function tlsCounters(stats: StatsStore) {
  const counter = (name: string) => stats.counter(`tls_inspector.${name}`);
  return {
    tooLarge: counter('client_hello_too_large'),
    found: counter('tls_found'),
    notFound: counter('tls_not_found'),
    alpn: counter('alpn_found'),
    noAlpn: counter('alpn_not_found'),
    sni: counter('sni_found'),
    noSni: counter('sni_not_found'),
    bytes: stats.histogram('tls_inspector.bytes_processed'),
  };
}

function httpCounters(stats: StatsStore): Readonly<Record<string, { value: number }>> {
  const counter = (name: string) => stats.counter(`http_inspector.${name}`);
  counter('read_error');
  return {
    'http/1.0': counter('http10_found'),
    'http/1.1': counter('http11_found'),
    h2c: counter('http2_found'),
    none: counter('http_not_found'),
  };
}
