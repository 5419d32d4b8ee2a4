// exec and attach over WebSocket: one binary message is a channel number and bytes. Called by handlers.ts.
import { Readable, Writable } from 'node:stream';
import type { WebSocket } from 'ws';
import type { NodeBackend } from '../../node-backend.ts';
import { createResizeFeed, parseSize, runSession, type Session } from './exec.ts';

/** Newest first. The plain ones report an error as text and a success as nothing. */
export const EXEC_PROTOCOLS: readonly string[] = ['v5.channel.k8s.io', 'v4.channel.k8s.io', 'channel.k8s.io'];

const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;
const ERROR = 3;
const RESIZE = 4;
/** v5: the next byte names a channel the client will not write to any more. */
const CLOSE = 255;

const NORMAL_CLOSURE = 1000;
const PROTOCOL_ERROR = 1002;
/** Bytes of stdin kept before the connection waits. */
const STDIN_BUFFER_BYTES = 256 * 1024;

/** `protocol`: one of EXEC_PROTOCOLS, or '' for plain channels. */
export function serveWebSocketExec(backend: NodeBackend, session: Session, socket: WebSocket, protocol: string): void {
  const { query } = session;
  const gone = new AbortController();
  const resize = createResizeFeed();
  const stdin = query.stdin ? createStdin(socket) : undefined;
  socket.on('error', () => socket.terminate());
  socket.on('close', () => {
    gone.abort();
    stdin?.push(null);
  });
  socket.on('message', (data: Buffer, isBinary: boolean) => {
    const message = isBinary ? data : Buffer.from(data);
    if (message.length === 0) return;
    const channel = message[0]!;
    if (channel === STDIN && stdin) {
      if (message.length > 1 && !stdin.readableEnded && !stdin.destroyed && !stdin.push(message.subarray(1)))
        socket.pause();
    } else if (channel === RESIZE) {
      const size = parseSize(message.toString('utf8', 1));
      if (size) resize.push(size);
    } else if (channel === CLOSE && protocol.startsWith('v5.')) {
      if (message[1] === STDIN) stdin?.push(null);
    } else if (channel !== STDIN) socket.close(PROTOCOL_ERROR, `unexpected channel ${channel}`);
  });
  const status = protocol.startsWith('v4.') || protocol.startsWith('v5.');
  void runSession(backend, session, {
    stdin,
    stdout: query.stdout ? createChannel(socket, STDOUT) : undefined,
    stderr: query.stderr ? createChannel(socket, STDERR) : undefined,
    resize,
    signal: gone.signal,
    finish(result) {
      const text = status ? JSON.stringify(result) : result.status === 'Success' ? '' : (result.message ?? '');
      if (socket.readyState !== socket.OPEN) return;
      // A paused socket would never see the client's closing handshake.
      socket.resume();
      if (text !== '') socket.send(Buffer.concat([Buffer.from([ERROR]), Buffer.from(text)]));
      socket.close(NORMAL_CLOSURE);
    },
  });
}

function createStdin(socket: WebSocket): Readable {
  const stdin = new Readable({
    highWaterMark: STDIN_BUFFER_BYTES,
    read() {
      if (socket.isPaused) socket.resume();
    },
    destroy(error, callback) {
      if (socket.isPaused) socket.resume();
      callback(error);
    },
  });
  stdin.on('error', () => {});
  return stdin;
}

function createChannel(socket: WebSocket, channel: number): Writable {
  const prefix = Buffer.from([channel]);
  const writable = new Writable({
    write(chunk: Buffer, _encoding, callback) {
      if (socket.readyState !== socket.OPEN) callback(new Error('the client has gone'));
      else socket.send(Buffer.concat([prefix, chunk]), callback);
    },
  });
  writable.on('error', () => {});
  socket.on('close', () => writable.destroy());
  return writable;
}
