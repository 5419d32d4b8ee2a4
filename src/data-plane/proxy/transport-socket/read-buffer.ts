// Reads of an accepted or wrapped socket into one reused buffer. `net.Server` offers no `onread`, so this sets what
// `net.Socket({onread})` sets, by the socket's own symbols. If a Node release changes them, `readInto` returns false and
// the caller uses `data` events; read-buffer.test.ts then fails. Called by socket-transport.ts.
import { Socket } from 'node:net';
import { BULK_BUFFER_BYTES, READ_BUFFER_BYTES } from '../limits.ts';

/** Shared by all sockets: a callback consumes it before it returns. */
export const readBuffer: Buffer = Buffer.allocUnsafeSlow(READ_BUFFER_BYTES);

let bulk: Buffer | undefined;

/** The large buffer of byte pumps, shared in the same way; there once somebody needs it. */
export function bulkBuffer(): Buffer {
  bulk ??= Buffer.allocUnsafeSlow(BULK_BUFFER_BYTES);
  return bulk;
}

interface StreamHandle {
  reading: boolean;
  useUserBuffer?(buffer: Uint8Array): void;
  readStart(): number;
  readStop(): number;
}

const symbols = ((): { buffer: symbol; callback: symbol; generate: symbol } | undefined => {
  const probe = new Socket({ onread: { buffer: new Uint8Array(1), callback: () => true } });
  const own = Object.getOwnPropertySymbols(probe);
  const find = (name: string) => own.find((symbol) => symbol.description === name);
  const buffer = find('kBuffer');
  const callback = find('kBufferCb');
  const generate = find('kBufferGen');
  return buffer && callback && generate ? { buffer, callback, generate } : undefined;
})();

export function handleOf(socket: Socket): (StreamHandle & { readonly fd?: number }) | undefined {
  return (socket as unknown as { _handle?: StreamHandle & { fd?: number } })._handle ?? undefined;
}

/**
 * Delivers reads as `onRead(buffer, length)`, first in `readBuffer`, then in the one `next` names after each read
 * (undefined: the same). False when this Node does not allow it; nothing is changed then.
 */
export function readInto(
  socket: Socket,
  onRead: (bytes: Buffer, length: number) => void,
  next: () => Buffer | undefined = () => undefined,
): boolean {
  const handle = handleOf(socket);
  if (!symbols || !handle || typeof handle.useUserBuffer !== 'function') return false;
  const fields = socket as unknown as Record<symbol, unknown>;
  const before = fields[symbols.buffer];
  if (before === undefined) return false;
  fields[symbols.buffer] = readBuffer;
  fields[symbols.callback] = (length: number, bytes: Buffer): boolean => {
    onRead(bytes, length);
    return true;
  };
  fields[symbols.generate] = next;
  // An inspector has read in this way already.
  if (before !== readBuffer) handle.useUserBuffer(readBuffer);
  return true;
}

export function startReading(socket: Socket): void {
  const handle = handleOf(socket);
  if (!handle || handle.reading) return;
  handle.reading = true;
  handle.readStart();
}

export function stopReading(socket: Socket): void {
  const handle = handleOf(socket);
  if (!handle?.reading) return;
  handle.reading = false;
  handle.readStop();
}
