// send(2) on a socket that has nothing queued: it says how many bytes the kernel took, so that a large read buffer which
// many sockets share can be sent from without a copy. koffi is loaded at the first use: only bulk transfers pay for it.
// Called by socket-transport.ts.
import { createRequire } from 'node:module';

const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;

type Send = (fd: number, bytes: Uint8Array, length: number, flags: number) => number;

interface Koffi {
  load(path: string | null): { func(declaration: string): Send };
}

let cached: Send | undefined;

/** Bytes of `bytes[start, end)` the kernel took; 0 when it takes none now, or the socket has failed. Never waits. */
export function sendNow(fd: number, bytes: Buffer, start: number, end: number): number {
  if (fd < 0) return 0;
  if (!cached) {
    const koffi = createRequire(import.meta.url)('koffi') as Koffi;
    cached = koffi.load(null).func('int64_t send(int fd, const void *bytes, uint64_t length, int flags)');
  }
  const sent = cached(fd, bytes.subarray(start, end), end - start, MSG_DONTWAIT | MSG_NOSIGNAL);
  return Math.max(sent, 0);
}
