// exec and attach over SPDY/3.1 (kubectl before 1.31): one stream for each of stdin, stdout, stderr, error and resize.
// Called by handlers.ts.
import type { Duplex } from 'node:stream';
import type { NodeBackend } from '../../node-backend.ts';
import { createResizeFeed, parseSize, type ResizeFeed, runSession, type Session, type SessionStatus } from './exec.ts';
import { type SpdyConnection, type SpdyStream, serveSpdy } from './spdy/connection.ts';

export const SPDY_EXEC_PROTOCOL = 'v4.channel.k8s.io';
/** The client must have opened all streams by then. */
export const STREAM_CREATION_MS = 30_000;
/** After our last byte the client gets this long to hang up. */
const LINGER_MS = 2_000;
const MAX_RESIZE_BUFFER = 4096;

export function serveSpdyExec(backend: NodeBackend, session: Session, socket: Duplex, head: Buffer): SpdyConnection {
  const { query } = session;
  const wanted = new Set(['error']);
  if (query.stdin) wanted.add('stdin');
  if (query.stdout) wanted.add('stdout');
  if (query.stderr) wanted.add('stderr');
  if (query.tty) wanted.add('resize');
  const streams = new Map<string, SpdyStream>();
  const timer = setTimeout(() => connection.destroy(), STREAM_CREATION_MS);
  const connection = serveSpdy(socket, head, (stream) => {
    const type = stream.headers.get('streamtype') ?? '';
    if (!wanted.has(type) || streams.has(type)) {
      stream.destroy();
      return;
    }
    streams.set(type, stream);
    if (streams.size < wanted.size) return;
    clearTimeout(timer);
    run(backend, session, streams, connection);
  });
  void connection.closed.then(() => clearTimeout(timer));
  return connection;
}

function run(
  backend: NodeBackend,
  session: Session,
  streams: ReadonlyMap<string, SpdyStream>,
  connection: SpdyConnection,
): void {
  const gone = new AbortController();
  void connection.closed.then(() => gone.abort());
  const resize = createResizeFeed();
  const resizeStream = streams.get('resize');
  if (resizeStream) readSizes(resizeStream, resize);
  const error = streams.get('error')!;
  error.resume();
  void runSession(backend, session, {
    stdin: streams.get('stdin'),
    stdout: streams.get('stdout'),
    stderr: streams.get('stderr'),
    resize,
    signal: gone.signal,
    finish: (status) => finish(error, status, connection),
  });
}

function finish(error: SpdyStream, status: SessionStatus, connection: SpdyConnection): void {
  error.end(JSON.stringify(status), () => {
    const timer = setTimeout(() => connection.end(), LINGER_MS);
    void connection.closed.then(() => clearTimeout(timer));
  });
}

function readSizes(stream: SpdyStream, resize: ResizeFeed): void {
  let text = '';
  stream.on('data', (chunk: Buffer) => {
    text += chunk.toString('utf8');
    for (let end = text.indexOf('}'); end !== -1; end = text.indexOf('}')) {
      const size = parseSize(text.slice(0, end + 1).trim());
      if (size) resize.push(size);
      text = text.slice(end + 1);
    }
    if (text.length > MAX_RESIZE_BUFFER) stream.destroy();
  });
}
