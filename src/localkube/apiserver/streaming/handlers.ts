// Takes an authorized upgrade request, agrees on a protocol, and joins it to the node's exec, attach or port-forward.
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { NodeBackend } from '../../node-backend.ts';

export interface StreamTarget {
  readonly namespace: string;
  readonly pod: string;
}

/** Each takes the socket over and answers refusals (400, 403, 429) on it itself. The query string is read from `request.url`. */
export interface Streaming {
  exec(request: IncomingMessage, socket: Duplex, head: Buffer, target: StreamTarget): void;
  attach(request: IncomingMessage, socket: Duplex, head: Buffer, target: StreamTarget): void;
  portForward(request: IncomingMessage, socket: Duplex, head: Buffer, target: StreamTarget): void;
  /** Ends every stream. */
  close(): void;
}

export function createStreaming(backend: NodeBackend): Streaming {
  throw new Error(`streaming over ${typeof backend} is being written`);
}
