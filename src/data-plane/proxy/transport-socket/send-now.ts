// send(2) on a socket that has nothing queued: it says how many bytes the kernel took, so that buffers which many sockets
// share can be sent from without a copy, and costs a tenth of a stream's write. koffi is loaded at the first use: a proxy
// that serves nobody does not pay for it. Called by socket-transport.ts.
import { createRequire } from 'node:module';

const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;

type Send = (fd: number, bytes: number, length: number, flags: number) => number;

interface Koffi {
  load(path: string | null): { func(declaration: string): Send };
  address(bytes: Uint8Array): bigint;
}

let cached: { readonly koffi: Koffi; readonly send: Send } | undefined;
/** Nearly all bytes come from a handful of shared buffers. */
let lastBuffer: Buffer | undefined;
let lastAddress = 0;

/** Bytes of `bytes[start, end)` the kernel took; 0 when it takes none now, or the socket has failed. Never waits. */
export function sendNow(fd: number, bytes: Buffer, start: number, end: number): number {
  if (fd < 0) return 0;
  if (!cached) {
    const koffi = createRequire(import.meta.url)('koffi') as Koffi;
    const send = koffi.load(null).func('int64_t send(int fd, uintptr_t bytes, uint64_t length, int flags)');
    cached = { koffi, send };
  }
  if (bytes !== lastBuffer) {
    lastAddress = Number(cached.koffi.address(bytes));
    lastBuffer = bytes;
  }
  const sent = cached.send(fd, lastAddress + start, end - start, MSG_DONTWAIT | MSG_NOSIGNAL);
  return Math.max(sent, 0);
}
