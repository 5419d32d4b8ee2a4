// A bidirectional gRPC stream over HTTP/2 (node:http2), enough for discovery services. Called by ads.ts and sds.ts.
import type { ClientHttp2Session, ClientHttp2Stream } from 'node:http2';
import { connect } from 'node:net';
import type { SocketAddr } from '../config/address.ts';
import { MAX_XDS_MESSAGE_BYTES } from '../limits.ts';

export interface GrpcStreamOptions {
  readonly address: SocketAddr;
  /** `/package.Service/Method`. */
  readonly method: string;
  readonly metadata: readonly (readonly [string, string])[];
  readonly onMessage: (bytes: Buffer) => void;
  /** Once: the stream is over, whoever ended it. */
  readonly onClose: (reason: string) => void;
}

export interface GrpcStream {
  send(message: Uint8Array): void;
  close(): void;
}

const HEADER = 5;
const COMPRESSED = 1;

export function openGrpcStream(options: GrpcStreamOptions): GrpcStream {
  const { address } = options;
  // Loaded by whoever discovers: 4 MB that others do without.
  const { connect: connectHttp2 } = process.getBuiltinModule('node:http2');
  const session: ClientHttp2Session = connectHttp2('http://xds', {
    createConnection: () => (address.kind === 'pipe' ? connect(address.path) : connect(address.port, address.ip)),
    settings: { enablePush: false },
  });
  // The stream must not keep a process alive that wants to end.
  let closed = false;
  let status = '';
  const finish = (reason: string): void => {
    if (closed) return;
    closed = true;
    session.destroy();
    options.onClose(reason);
  };
  session.on('error', (error) => finish(error.message));
  session.on('close', () => finish(status || 'connection closed'));
  session.on('goaway', () => finish('the server is going away'));
  const stream: ClientHttp2Stream = session.request({
    ':method': 'POST',
    ':path': options.method,
    ':authority': 'xds',
    'content-type': 'application/grpc',
    te: 'trailers',
    ...Object.fromEntries(options.metadata),
  });
  const note = (headers: Record<string, unknown>): void => {
    const code = headers['grpc-status'];
    if (code !== undefined && code !== '0')
      status = `gRPC status ${code}: ${decodeURIComponentSafe(String(headers['grpc-message'] ?? ''))}`;
    const http = headers[':status'];
    if (http !== undefined && http !== 200) status = `HTTP status ${http}`;
  };
  stream.on('response', note);
  stream.on('trailers', note);
  stream.on('error', (error) => finish(status || error.message));
  // The server ended its side: the call is over although ours is still open.
  stream.on('end', () => finish(status || 'stream ended'));
  stream.on('close', () => finish(status || 'stream closed'));
  const take = messageReader(options.onMessage);
  stream.on('data', (chunk: Buffer) => {
    if (closed) return;
    const problem = take(chunk);
    if (problem) finish(problem);
  });
  return {
    send(message) {
      if (closed) return;
      const frame = Buffer.allocUnsafe(HEADER + message.length);
      frame[0] = 0;
      frame.writeUInt32BE(message.length, 1);
      frame.set(message, HEADER);
      stream.write(frame);
    },
    close: () => finish('closed by us'),
  };
}

/** Puts length-prefixed messages together; answers with a reason when the peer breaks the rules. */
export function messageReader(onMessage: (bytes: Buffer) => void): (chunk: Buffer) => string | undefined {
  let parts: Buffer[] = [];
  let have = 0;
  let want = HEADER;
  let length = -1;
  return (chunk) => {
    parts.push(chunk);
    have += chunk.length;
    while (have >= want) {
      const all = parts.length === 1 ? parts[0]! : Buffer.concat(parts, have);
      if (length < 0) {
        if (all[0] === COMPRESSED) return 'compressed gRPC message, which was not offered';
        length = all.readUInt32BE(1);
        if (length > MAX_XDS_MESSAGE_BYTES)
          return `gRPC message of ${length} bytes is larger than ${MAX_XDS_MESSAGE_BYTES}`;
        want = HEADER + length;
        parts = [all];
        continue;
      }
      const message = all.subarray(HEADER, want);
      const rest = all.subarray(want);
      parts = rest.length > 0 ? [rest] : [];
      have = rest.length;
      want = HEADER;
      length = -1;
      onMessage(message);
    }
    return undefined;
  };
}

function decodeURIComponentSafe(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
