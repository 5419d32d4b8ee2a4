// /listeners: which listeners are bound where.
import { addressText, type SocketAddr } from '../config/address.ts';
import type { AdminTarget } from './target.ts';

function shown(target: AdminTarget): { name: string; addresses: readonly SocketAddr[] }[] {
  return target.listeners
    .views()
    .flatMap((view) =>
      view.active
        ? [{ name: view.name, addresses: view.bound.length > 0 ? view.bound : view.active.settings.addresses }]
        : [],
    );
}

export function listenersText(target: AdminTarget): string {
  return shown(target)
    .flatMap(({ name, addresses }) => addresses.map((address) => `${name}::${addressText(address)}\n`))
    .join('');
}

export function listenersJson(target: AdminTarget): string {
  const statuses = shown(target).map(({ name, addresses }) => ({
    name,
    local_address: addresses[0] && addressJson(addresses[0]),
  }));
  return `${JSON.stringify(statuses.length === 0 ? {} : { listener_statuses: statuses }, null, 1)}\n`;
}

export function addressJson(address: SocketAddr): object {
  return address.kind === 'ip'
    ? { socket_address: { address: address.ip, port_value: address.port } }
    : { pipe: { path: address.path } };
}
