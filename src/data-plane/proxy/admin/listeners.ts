// /listeners: which listeners are bound where.
import { addressText, type SocketAddr } from '../config/address.ts';
import type { Engine } from '../engine.ts';

function shown(engine: Engine): { name: string; addresses: readonly SocketAddr[] }[] {
  return engine.listeners
    .views()
    .flatMap((view) =>
      view.active
        ? [{ name: view.name, addresses: view.bound.length > 0 ? view.bound : view.active.settings.addresses }]
        : [],
    );
}

export function listenersText(engine: Engine): string {
  return shown(engine)
    .flatMap(({ name, addresses }) => addresses.map((address) => `${name}::${addressText(address)}\n`))
    .join('');
}

export function listenersJson(engine: Engine): string {
  const statuses = shown(engine).map(({ name, addresses }) => ({
    name,
    local_address: addresses[0] && addressJson(addresses[0]),
  }));
  return JSON.stringify({ listener_statuses: statuses }, null, 1);
}

export function addressJson(address: SocketAddr): object {
  return address.kind === 'ip'
    ? { socket_address: { address: address.ip, port_value: address.port } }
    : { pipe: { path: address.path } };
}
