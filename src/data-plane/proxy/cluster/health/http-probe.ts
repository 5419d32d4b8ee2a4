// HTTP and gRPC health checks: one request on a connection of their own, which no limit or statistic of the cluster
// counts. Made by checker.ts.
import type { BodyKind } from '../../http/codec.ts';
import { HeaderMap, type HeaderName, headerName } from '../../http/header-map.ts';
import { H } from '../../http/names.ts';
import type { OutgoingHead, ResponseReceiver, UpstreamExchange, UpstreamPool } from '../../upstream/exchange.ts';
import { DEGRADED, HEALTHY, type Probe, type ProbeResult, REFUSED, UNREACHABLE } from './probe.ts';
import { type GrpcCheck, type HttpCheck, holds, inRanges } from './settings.ts';

const DEGRADED_HEADER = headerName('x-envoy-degraded');
const EXCLUDE_HEADER = headerName('x-envoy-immediate-health-check-fail');
const CLUSTER_HEADER = headerName('x-envoy-upstream-healthchecked-cluster');

/** What makes a request of a check and judges its answer. */
export interface HttpQuestion {
  readonly method: string;
  readonly path: string;
  readonly authority: string;
  readonly headers: readonly (readonly [HeaderName, string])[];
  readonly remove: readonly HeaderName[];
  readonly body: Buffer | undefined;
  /** Its length is not told. */
  readonly streamed: boolean;
  /** Bytes of the answer's body that are looked at; more are dropped. */
  readonly bodyBytes: number;
  judge(answer: HttpAnswer): ProbeResult;
}

export interface HttpAnswer {
  readonly status: number;
  readonly header: (name: HeaderName) => string | undefined;
  readonly trailer: (name: HeaderName) => string | undefined;
  readonly body: Buffer;
}

export class HttpProbe implements Probe {
  readonly #question: HttpQuestion;
  readonly #openPool: () => UpstreamPool;
  readonly #scheme: string;
  readonly #reuse: boolean;
  #pool: UpstreamPool | undefined;

  constructor(question: HttpQuestion, openPool: () => UpstreamPool, scheme: string, reuse: boolean) {
    this.#question = question;
    this.#openPool = openPool;
    this.#scheme = scheme;
    this.#reuse = reuse;
  }

  start(done: (result: ProbeResult) => void): () => void {
    this.#pool ??= this.#openPool();
    const exchange = new ProbeExchange(this.#question, this.#head(), (result, clean) => {
      if (!this.#reuse || !clean) this.#drop();
      done(result);
    });
    const leave = this.#pool.request(exchange);
    return () => {
      leave();
      exchange.cancel();
      this.#drop();
    };
  }

  stop(): void {
    this.#drop();
  }

  #drop(): void {
    const pool = this.#pool;
    this.#pool = undefined;
    pool?.destroy();
  }

  #head(): OutgoingHead {
    const { method, path, authority, headers: add, remove, body } = this.#question;
    const headers = new HeaderMap();
    headers.set(H.host, authority);
    headers.set(H.userAgent, 'Envoy/HC');
    if (body && !this.#question.streamed) headers.set(H.contentLength, String(body.length));
    for (const [name, value] of add) headers.set(name, value);
    for (const name of remove) headers.remove(name);
    return { method, path, scheme: this.#scheme, headers, body: kindOf(this.#question), upgrade: '' };
  }
}

function kindOf({ body, streamed }: HttpQuestion): BodyKind {
  if (!body) return 'none';
  return streamed ? 'chunked' : 'length';
}

class ProbeExchange implements ResponseReceiver {
  readonly #question: HttpQuestion;
  readonly #head: OutgoingHead;
  readonly #done: (result: ProbeResult, clean: boolean) => void;
  #exchange: UpstreamExchange | undefined;
  #over = false;
  #status = 0;
  #headers: HeaderMap | undefined;
  #body: Buffer[] = [];
  #size = 0;

  constructor(question: HttpQuestion, head: OutgoingHead, done: (result: ProbeResult, clean: boolean) => void) {
    this.#question = question;
    this.#head = head;
    this.#done = done;
  }

  cancel(): void {
    this.#over = true;
    this.#exchange?.cancel();
  }

  onReady(exchange: UpstreamExchange): void {
    this.#exchange = exchange;
    const { body } = this.#question;
    exchange.begin(this.#head, this);
    if (!body) return;
    exchange.sendData(body, 0, body.length);
    exchange.sendEnd();
  }

  onFailure(): void {
    this.#finish(UNREACHABLE, false);
  }

  onResponseInformational(): void {}

  onResponseHead(status: number, headers: HeaderMap, endStream: boolean): void {
    this.#status = status;
    this.#headers = headers;
    if (endStream) this.#judge(undefined);
  }

  onResponseData(bytes: Buffer, start: number, end: number): void {
    const room = this.#question.bodyBytes - this.#size;
    if (room <= 0) return;
    const stop = Math.min(end, start + room);
    this.#body.push(Buffer.from(bytes.subarray(start, stop)));
    this.#size += stop - start;
  }

  onResponseEnd(trailers?: HeaderMap): void {
    this.#judge(trailers);
  }

  onUpstreamReset(): void {
    this.#finish(UNREACHABLE, false);
  }

  onRequestBacklog(): void {}

  #judge(trailers: HeaderMap | undefined): void {
    const headers = this.#headers;
    const result = this.#question.judge({
      status: this.#status,
      header: (name) => headers?.get(name),
      trailer: (name) => trailers?.get(name),
      body: Buffer.concat(this.#body),
    });
    this.#finish(result, headers?.get(H.connection)?.toLowerCase() !== 'close');
  }

  #finish(result: ProbeResult, clean: boolean): void {
    if (this.#over) return;
    this.#over = true;
    this.#done(result, clean);
  }
}

export function httpQuestion(check: HttpCheck, authority: string, onVerify: () => void): HttpQuestion {
  return {
    method: check.method,
    path: check.path,
    authority,
    headers: check.add,
    remove: check.remove,
    body: check.send,
    streamed: false,
    bodyBytes: check.receive.length > 0 ? check.bodyBytes : 0,
    judge({ status, header, body }) {
      const exclude = header(EXCLUDE_HEADER) !== undefined;
      if (!inRanges(status, check.expected)) {
        const retriable = inRanges(status, check.retriable);
        return { kind: 'failed', why: 'active', retriable, exclude };
      }
      if (check.serviceName) {
        onVerify();
        if (!check.serviceName(header(CLUSTER_HEADER) ?? '')) return { ...REFUSED, exclude };
      }
      if (check.receive.length > 0 && !holds(body, check.receive)) return { ...REFUSED, exclude };
      return header(DEGRADED_HEADER) === undefined ? HEALTHY : DEGRADED;
    },
  };
}

const GRPC_HEADERS: readonly (readonly [HeaderName, string])[] = [
  [H.contentType, 'application/grpc'],
  [H.te, 'trailers'],
];
/** grpc.health.v1.HealthCheckResponse.SERVING */
const SERVING = 1;
/** gRPC's status for a service the server does not know. */
const MAX_GRPC_ANSWER_BYTES = 64;

export function grpcQuestion(check: GrpcCheck, authority: string): HttpQuestion {
  const name = Buffer.from(check.service, 'utf8');
  // One length-prefixed HealthCheckRequest { string service = 1; }.
  const message =
    name.length === 0 ? Buffer.alloc(0) : Buffer.concat([Buffer.from([10, ...varint(name.length)]), name]);
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return {
    method: 'POST',
    path: '/grpc.health.v1.Health/Check',
    authority,
    headers: [...GRPC_HEADERS, ...check.add],
    remove: [],
    body: Buffer.concat([prefix, message]),
    streamed: true,
    bodyBytes: MAX_GRPC_ANSWER_BYTES,
    judge({ status, header, trailer, body }) {
      const code = trailer(H.grpcStatus) ?? header(H.grpcStatus);
      if (status !== 200 || code !== '0') return REFUSED;
      return servingStatus(body) === SERVING ? HEALTHY : REFUSED;
    },
  };
}

function varint(value: number): number[] {
  const out: number[] = [];
  let rest = value;
  for (; rest > 127; rest >>>= 7) out.push((rest & 127) | 128);
  return [...out, rest];
}

/** Field 1 of the answer's message; -1 = not an answer. */
function servingStatus(body: Buffer): number {
  if (body.length < 5 || body[0] !== 0) return -1;
  const length = body.readUInt32BE(1);
  if (body.length !== 5 + length) return -1;
  if (length === 0) return 0;
  return length === 2 && body[5] === 8 ? body[6]! : -1;
}
