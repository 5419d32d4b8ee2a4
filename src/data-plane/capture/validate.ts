// Proves that capture works in this namespace: a call from the proxy's user must arrive at the inbound port
// with its original destination. Called by main.ts after `--run-validation`.
import { once } from 'node:events';
import { createServer, type Server, Socket } from 'node:net';
import koffi from 'koffi';

const SOL_IP = 0;
const SO_ORIGINAL_DST = 80;
/** An address that no rule leaves alone for the proxy's user, unlike 127.0.0.1. */
const PROBE_ADDRESS = '127.0.0.6';
const SOCKADDR_IN_BYTES = 16;
const RETRY_MS = 100;

export interface ValidationOptions {
  readonly inboundPort: number;
  /** Where the probe is aimed; nothing needs to listen there. */
  readonly probePort: number;
  readonly timeoutMs: number;
}

/** Resolves when a probe was redirected; rejects with what was seen instead. The caller must be the proxy's user. */
export async function validateCapture(options: ValidationOptions): Promise<void> {
  const server = createServer();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.on('connection', (socket) => {
    const port = originalPort(socket);
    socket.destroy();
    if (port === options.probePort) resolve();
    else reject(new Error(`the probe's original port reads ${port ?? 'nothing'}, not ${options.probePort}`));
  });
  server.listen(options.inboundPort, '127.0.0.1');
  await once(server, 'listening');
  const probing = probeRepeatedly(options.probePort);
  const timer = setTimeout(
    () => reject(new Error(`no redirected connection on port ${options.inboundPort} within ${options.timeoutMs} ms`)),
    options.timeoutMs,
  );
  try {
    await promise;
  } finally {
    clearTimeout(timer);
    probing.stop();
    await closed(server);
  }
}

function probeRepeatedly(port: number): { stop(): void } {
  const probe = (): void => {
    const socket = new Socket();
    socket.on('error', () => socket.destroy());
    socket.connect(port, PROBE_ADDRESS, () => socket.end());
  };
  probe();
  const timer = setInterval(probe, RETRY_MS);
  return { stop: () => clearInterval(timer) };
}

async function closed(server: Server): Promise<void> {
  const done = once(server, 'close');
  server.close();
  await done;
}

/** The port a redirected connection was meant for. */
function originalPort(socket: Socket): number | undefined {
  const fd = (socket as unknown as { readonly _handle?: { readonly fd: number } })._handle?.fd;
  if (fd === undefined) return undefined;
  const getsockopt = koffi.load('libc.so.6').func('int getsockopt(int, int, int, _Out_ void *, _Inout_ uint32_t *)');
  const address = Buffer.alloc(SOCKADDR_IN_BYTES);
  return getsockopt(fd, SOL_IP, SO_ORIGINAL_DST, address, [address.length]) < 0 ? undefined : address.readUInt16BE(2);
}
