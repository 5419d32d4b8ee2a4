// Port forwarding over SPDY/3.1, plain or tunnelled in WebSocket messages: every connection is a pair of streams, data and
// error, joined by a request id. Called by handlers.ts.
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream';
import type { NodeBackend } from '../../node-backend.ts';
import { type SpdyConnection, type SpdyStream, serveSpdy } from './spdy/connection.ts';
import type { StreamTarget } from './target.ts';

export const SPDY_PORT_FORWARD_PROTOCOL = 'portforward.k8s.io';
export const TUNNEL_PROTOCOL = 'SPDY/3.1+portforward.k8s.io';
/** The second stream of a pair must follow the first within this time. */
const PAIR_MS = 30_000;

interface Pair {
  data?: SpdyStream;
  error?: SpdyStream;
  readonly timer: NodeJS.Timeout;
}

export function servePortForward(
  backend: NodeBackend,
  target: StreamTarget,
  transport: Duplex,
  head: Buffer,
): SpdyConnection {
  const pairs = new Map<string, Pair>();
  const connection = serveSpdy(transport, head, (stream) => {
    const type = stream.headers.get('streamtype');
    const id = stream.headers.get('requestid') ?? '';
    const port = Number(stream.headers.get('port'));
    if ((type !== 'data' && type !== 'error') || !Number.isInteger(port) || port < 1 || port > 65_535) {
      stream.destroy();
      return;
    }
    let pair = pairs.get(id);
    if (!pair) {
      pair = { timer: setTimeout(() => drop(pairs, id), PAIR_MS) };
      pairs.set(id, pair);
    }
    if (pair[type]) {
      stream.destroy();
      return;
    }
    pair[type] = stream;
    const { data, error } = pair;
    if (!data || !error) return;
    clearTimeout(pair.timer);
    pairs.delete(id);
    error.resume();
    void forward(backend, target, port, data, error);
  });
  void connection.closed.then(() => {
    for (const pair of pairs.values()) clearTimeout(pair.timer);
    pairs.clear();
  });
  return connection;
}

function drop(pairs: Map<string, Pair>, id: string): void {
  const pair = pairs.get(id);
  pairs.delete(id);
  pair?.data?.destroy();
  pair?.error?.destroy();
}

/** Never rejects. */
async function forward(
  backend: NodeBackend,
  target: StreamTarget,
  port: number,
  data: SpdyStream,
  error: SpdyStream,
): Promise<void> {
  let upstream: Duplex;
  try {
    upstream = await backend.portForward({ ...target, port });
  } catch (cause) {
    error.end(`error forwarding port ${port} to pod ${target.pod}: ${(cause as Error).message}`);
    data.resume();
    data.end();
    return;
  }
  if (data.destroyed) {
    upstream.destroy();
    return;
  }
  // Each half ends by itself: a client that has finished sending still gets its answer.
  pipeline(data, upstream, (cause) => {
    if (cause) upstream.destroy();
  });
  pipeline(upstream, data, (cause) => {
    if (cause && !error.destroyed) error.end(`an error occurred forwarding port ${port}: ${cause.message}`);
    else error.end();
  });
}
