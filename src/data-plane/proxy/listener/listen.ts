// Opens one listening socket as the listener's settings say. Called by the listener manager.
import type { Server } from 'node:net';
import type { SocketAddr } from '../config/address.ts';
import { boundSocket, setOption } from './raw-socket.ts';
import type { ListenerSettings } from './settings.ts';

/** Throws when the socket cannot be made; later failures are `error` events of the server. */
export function listenOn(
  server: Server,
  settings: ListenerSettings,
  address: SocketAddr,
  /** Instead of the address's own port 0. */
  chosenPort: number,
  listening: () => void,
): void {
  const { backlog, socket } = settings;
  const index = settings.addresses.indexOf(address);
  if (address.kind === 'pipe') {
    const path = address.path.startsWith('@') ? `\0${address.path.slice(1)}` : address.path;
    const mode = socket.modes[index];
    // What an earlier process left behind would be in the way.
    const { chmodSync } = process.getBuiltinModule('node:fs');
    if (!address.path.startsWith('@')) unlinkQuietly(path);
    server.listen({ path, backlog }, () => {
      if (mode !== undefined) chmodSync(path, mode);
      listening();
    });
    return;
  }
  const { reusePort } = socket;
  const port = chosenPort || address.port;
  const ipv4Compat = socket.ipv4Compat[index] ?? false;
  const after = socket.options.filter((option) => !option.beforeBind);
  const ready = (): void => {
    const fd = (server as unknown as { readonly _handle?: { readonly fd?: number } })._handle?.fd ?? -1;
    for (const option of after) setOption(fd, option);
    listening();
  };
  if (socket.options.some((option) => option.beforeBind)) {
    const fd = boundSocket({ ...address, port }, socket.options, { reusePort, ipv4Compat });
    server.listen({ fd, backlog }, ready);
    return;
  }
  const ipv6Only = address.ip.includes(':') && !ipv4Compat;
  server.listen({ host: address.ip, port, ipv6Only, reusePort, backlog }, ready);
}

function unlinkQuietly(path: string): void {
  try {
    process.getBuiltinModule('node:fs').unlinkSync(path);
  } catch {
    // There was none, or bind says what is wrong.
  }
}
