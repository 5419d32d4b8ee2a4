// Looks at the first bytes of an accepted connection until it is known what it speaks. What was read is handed on.
import type { Socket } from 'node:net';
import type { Clock } from '../../../base/runtime/clock.ts';
import { HelloReader, roomFor, type TlsInspection } from '../listener-filter/client-hello.ts';
import type { Fingerprints } from '../listener-filter/fingerprint.ts';
import { detectHttp } from '../listener-filter/http-detect.ts';
import {
  type ProxyCounters,
  type ProxyHeader,
  type ProxyProtocolSettings,
  takeProxyHeader,
} from '../listener-filter/proxy-protocol.ts';
import { readInto, startReading, stopReading } from '../transport-socket/read-buffer.ts';
import { resetSocket } from '../transport-socket/socket-transport.ts';

export interface Inspection {
  /** `refused`: what came may not be served. */
  readonly outcome: 'done' | 'timeout' | 'closed' | 'refused';
  readonly bytes: Buffer | undefined;
  readonly transportProtocol: 'tls' | 'raw_buffer';
  readonly serverName: string;
  readonly alpn: readonly string[];
  /** The client can verify ECDSA signatures. */
  readonly ecdsa: boolean;
  /** What a PROXY protocol header said. */
  readonly proxied: Proxied | undefined;
  /** JA3 and JA4, when asked for. */
  readonly fingerprints?: Fingerprints | undefined;
  /** What tls_inspector has to say against the bytes. */
  readonly fault?: HelloFault;
}

export type HelloFault = 'ClientHelloNotDetected' | 'ClientHelloTooLarge';

export type Proxied = Extract<ProxyHeader, { kind: 'header' }>;

export const NOT_INSPECTED: Inspection = {
  outcome: 'done',
  bytes: undefined,
  transportProtocol: 'raw_buffer',
  serverName: '',
  alpn: [],
  ecdsa: true,
  proxied: undefined,
};

interface Wanted {
  readonly tls: boolean;
  readonly http: boolean;
  readonly inspection?: TlsInspection | undefined;
  readonly proxy?: { readonly settings: ProxyProtocolSettings; readonly counters: ProxyCounters } | undefined;
  /** ms; 0 = no limit. */
  readonly timeoutMs: number;
  /** Who sends something that says nothing yet, and ends, is handed on with what came. */
  readonly halfClosed?: boolean;
}

const NOTHING = Buffer.alloc(0);

/** `socket` is paused before and after. Calls `done` once; after 'closed' the socket is gone. */
export function inspect(socket: Socket, wanted: Wanted, clock: Clock, done: (result: Inspection) => void): void {
  let room: Buffer | undefined;
  let bytes: Buffer = NOTHING;
  const hello = readerFor(wanted.inspection);
  let finished = false;
  let proxied: Proxied | undefined;
  let headerTaken = wanted.proxy === undefined;
  const finish = (result: Inspection): void => {
    if (finished) return;
    finished = true;
    cancel?.();
    socket.removeListener('error', onGone);
    socket.removeListener('end', onGone);
    socket.removeListener('close', onGone);
    if (past) stopReading(socket);
    else {
      socket.removeListener('data', onData);
      socket.pause();
    }
    done({ ...result, proxied });
  };
  const onData = (chunk: Buffer): void => {
    if (bytes.length === 0) bytes = chunk;
    else {
      // Twice as large when it is full, so that a client that sends byte by byte does not have all of them copied each time.
      room = roomFor(room ?? bytes, bytes.length, chunk.length);
      chunk.copy(room, bytes.length);
      bytes = room.subarray(0, bytes.length + chunk.length);
    }
    if (!headerTaken) {
      const header = takeProxyHeader(bytes, wanted.proxy!.settings, wanted.proxy!.counters);
      if (header === undefined) return;
      if (header === 'refused') {
        finish({ ...NOT_INSPECTED, outcome: 'refused' });
        return;
      }
      headerTaken = true;
      if (header.kind === 'header') {
        proxied = header;
        bytes = bytes.subarray(header.length);
        room = undefined;
      }
      if (!wanted.tls && !wanted.http) {
        finish(unknown(bytes, 'done'));
        return;
      }
      if (bytes.length === 0) return;
    }
    const result = classify(bytes, wanted, hello);
    if (result) finish(result);
  };
  const onGone = (): void => {
    if (wanted.halfClosed && bytes.length > 0 && !socket.destroyed) {
      finish(unknown(bytes, 'done'));
      return;
    }
    // Nobody read what came: the client gets RST, as from a closed socket with unread bytes.
    if (bytes.length > 0) resetSocket(socket);
    else socket.destroy();
    finish({ ...NOT_INSPECTED, outcome: 'closed' });
  };
  const cancel =
    wanted.timeoutMs > 0 ? clock.after(wanted.timeoutMs, () => finish(unknown(bytes, 'timeout'))) : undefined;
  socket.on('error', onGone);
  socket.on('end', onGone);
  socket.on('close', onGone);
  // Past the stream, as the transport will read: its events and states cost more than the look itself.
  const past = readInto(socket, (buffer, length) => {
    if (!finished) onData(Buffer.from(buffer.subarray(0, length)));
  });
  if (past) startReading(socket);
  else {
    socket.on('data', onData);
    socket.resume();
  }
}

function unknown(bytes: Buffer, outcome: 'done' | 'timeout' | 'refused'): Inspection {
  return { ...NOT_INSPECTED, outcome, bytes: bytes.length > 0 ? bytes : undefined };
}

const readerFor = (told: TlsInspection | undefined): HelloReader =>
  new HelloReader(told?.fingerprinting, told?.maxBytes);

/** Undefined = more bytes are needed. `reader` knows what was read of these bytes before. */
export function classify(
  bytes: Buffer,
  wanted: Pick<Wanted, 'tls' | 'http' | 'inspection'>,
  reader = readerFor(wanted.inspection),
): Inspection | undefined {
  if (wanted.tls) {
    const hello = reader.read(bytes);
    if (hello.kind === 'more') return undefined;
    if (hello.kind === 'hello') return { ...NOT_INSPECTED, ...hello, outcome: 'done', bytes, transportProtocol: 'tls' };
    const { inspection } = wanted;
    const large = hello.kind === 'too-large' || (inspection?.closeOnErrors && bytes.length >= inspection.maxBytes);
    if (large) return { ...unknown(bytes, 'refused'), fault: 'ClientHelloTooLarge' };
    if (inspection?.closeOnErrors) return { ...unknown(bytes, 'refused'), fault: 'ClientHelloNotDetected' };
  }
  const plain = wanted.tls
    ? { ...unknown(bytes, 'done'), fault: 'ClientHelloNotDetected' as const }
    : unknown(bytes, 'done');
  if (!wanted.http) return plain;
  const found = detectHttp(bytes);
  if (found === 'more') return undefined;
  return found === 'none' ? plain : { ...plain, alpn: [found] };
}
