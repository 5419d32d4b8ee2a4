// Looks at the first bytes of an accepted connection until it is known what it speaks. What was read is handed on.
import type { Socket } from 'node:net';
import type { Clock } from '../../../base/runtime/clock.ts';
import { readClientHello } from '../listener-filter/client-hello.ts';
import { detectHttp } from '../listener-filter/http-detect.ts';

export interface Inspection {
  readonly outcome: 'done' | 'timeout' | 'closed';
  readonly bytes: Buffer | undefined;
  readonly transportProtocol: 'tls' | 'raw_buffer';
  readonly serverName: string;
  readonly alpn: readonly string[];
  /** The client can verify ECDSA signatures. */
  readonly ecdsa: boolean;
}

export const NOT_INSPECTED: Inspection = {
  outcome: 'done',
  bytes: undefined,
  transportProtocol: 'raw_buffer',
  serverName: '',
  alpn: [],
  ecdsa: true,
};

interface Wanted {
  readonly tls: boolean;
  readonly http: boolean;
  /** ms; 0 = no limit. */
  readonly timeoutMs: number;
}

/** `socket` is paused before and after. Calls `done` once; after 'closed' the socket is gone. */
export function inspect(socket: Socket, wanted: Wanted, clock: Clock, done: (result: Inspection) => void): void {
  let bytes: Buffer = Buffer.alloc(0);
  let finished = false;
  const finish = (result: Inspection): void => {
    if (finished) return;
    finished = true;
    cancel?.();
    socket.removeListener('data', onData);
    socket.removeListener('error', onGone);
    socket.removeListener('end', onGone);
    socket.removeListener('close', onGone);
    socket.pause();
    done(result);
  };
  const onData = (chunk: Buffer): void => {
    bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk]);
    const result = classify(bytes, wanted);
    if (result) finish(result);
  };
  const onGone = (): void => {
    // A client that sent something and half-closed is still served.
    if (bytes.length > 0 && !socket.destroyed) {
      finish(unknown(bytes, 'done'));
      return;
    }
    socket.destroy();
    finish({ ...NOT_INSPECTED, outcome: 'closed' });
  };
  const cancel =
    wanted.timeoutMs > 0 ? clock.after(wanted.timeoutMs, () => finish(unknown(bytes, 'timeout'))) : undefined;
  socket.on('data', onData);
  socket.on('error', onGone);
  socket.on('end', onGone);
  socket.on('close', onGone);
  socket.resume();
}

function unknown(bytes: Buffer, outcome: 'done' | 'timeout'): Inspection {
  return { ...NOT_INSPECTED, outcome, bytes: bytes.length > 0 ? bytes : undefined };
}

/** Undefined = more bytes are needed. */
export function classify(
  bytes: Buffer,
  wanted: { readonly tls: boolean; readonly http: boolean },
): Inspection | undefined {
  if (wanted.tls) {
    const hello = readClientHello(bytes);
    if (hello.kind === 'more') return undefined;
    if (hello.kind === 'hello') return { ...hello, outcome: 'done', bytes, transportProtocol: 'tls' };
  }
  if (!wanted.http) return unknown(bytes, 'done');
  const found = detectHttp(bytes);
  if (found === 'more') return undefined;
  return { ...unknown(bytes, 'done'), alpn: found === 'none' ? [] : [found] };
}
