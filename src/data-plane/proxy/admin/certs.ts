// /certs: the certificates in use, never their keys.
import type { X509Certificate } from 'node:crypto';
import { altNamesOf } from '../transport-socket/san.ts';
import type { TlsContext } from '../transport-socket/tls-context.ts';
import type { AdminTarget } from './target.ts';

export function certsPage(target: AdminTarget): string {
  const now = target.clock.now();
  const certificates = contexts(target).map((context) => ({
    ca_cert: (context.trust()?.roots ?? []).map((root) => detail(root, context.trust()?.path, now)),
    cert_chain: context
      .certificates()
      .flatMap((material) => material.chain.slice(0, 1).map((leaf) => detail(leaf, material.path, now))),
  }));
  return `${JSON.stringify({ certificates }, null, 1)}\n`;
}

function contexts(target: AdminTarget): TlsContext[] {
  const out = new Set<TlsContext>();
  for (const view of target.listeners.views())
    for (const chain of view.active?.chains() ?? []) if (chain.tls) out.add(chain.tls.context);
  for (const view of target.clusters.views())
    for (const socket of view.active?.tlsSockets() ?? []) if (socket.kind === 'tls') out.add(socket.context);
  return [...out];
}

function detail(certificate: X509Certificate, path: string | undefined, now: number): object {
  const from = Date.parse(certificate.validFrom);
  const to = Date.parse(certificate.validTo);
  const names: Record<string, string>[] = [];
  for (const name of altNamesOf(certificate)) {
    if (name.kind === 'uri') names.push({ uri: name.value });
    if (name.kind === 'dns') names.push({ dns: name.value });
    if (name.kind === 'ip') names.push({ ip_address: name.value });
  }
  return {
    path,
    serial_number: certificate.serialNumber.toLowerCase(),
    subject_alt_names: names,
    days_until_expiration: String(Math.max(0, Math.floor((to - now) / 86_400_000))),
    valid_from: new Date(from).toISOString(),
    expiration_time: new Date(to).toISOString(),
  };
}
