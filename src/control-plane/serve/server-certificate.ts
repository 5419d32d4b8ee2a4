// istiod's serving certificate as the TLS servers take it: issued by the mesh CA, issued again when the roots change.
import { experimental, type ServerCredentials } from '@grpc/grpc-js';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import type { CertificateAuthority } from '../ca/types.ts';

export interface ServingPair {
  readonly keyPem: string;
  readonly chainPem: string;
  readonly rootsPem: string;
}

export interface ServerCertificate {
  current(): ServingPair;
  onChange(handler: (pair: ServingPair) => void): void;
  /** TLS with an optional client certificate, which the authenticators check. */
  grpcCredentials(): ServerCredentials;
}

type CaListener = (update: { readonly caCertificate: Buffer } | null) => void;
type IdentityListener = (update: { readonly certificate: Buffer; readonly privateKey: Buffer } | null) => void;

export async function createServerCertificate(
  authority: CertificateAuthority,
  dnsNames: readonly string[],
  log: Logger,
): Promise<ServerCertificate> {
  const issue = async (): Promise<ServingPair> => ({
    ...(await authority.issueServer(dnsNames)),
    rootsPem: authority.rootBundlePem(),
  });
  let pair = await issue();
  const handlers = new Set<(pair: ServingPair) => void>();
  authority.onRootChange(() => {
    issue().then(
      (next) => {
        pair = next;
        for (const handler of handlers) handler(next);
      },
      (error: unknown) => log.error('no new serving certificate; the old one stays', { error: errorText(error) }),
    );
  });
  const caListeners = new Map<CaListener, (pair: ServingPair) => void>();
  const identityListeners = new Map<IdentityListener, (pair: ServingPair) => void>();
  const add = <L>(known: Map<L, (p: ServingPair) => void>, listener: L, tell: (p: ServingPair) => void): void => {
    known.set(listener, tell);
    handlers.add(tell);
    // grpc-js registers its own watcher only after this call; told at once, it would miss the certificate.
    queueMicrotask(() => tell(pair));
  };
  const remove = <L>(known: Map<L, (p: ServingPair) => void>, listener: L): void => {
    const tell = known.get(listener);
    if (tell) handlers.delete(tell);
    known.delete(listener);
  };
  const provider = {
    addCaCertificateListener: (l: CaListener) =>
      add(caListeners, l, (p) => l({ caCertificate: Buffer.from(p.rootsPem) })),
    removeCaCertificateListener: (l: CaListener) => remove(caListeners, l),
    addIdentityCertificateListener: (l: IdentityListener) =>
      add(identityListeners, l, (p) => l({ certificate: Buffer.from(p.chainPem), privateKey: Buffer.from(p.keyPem) })),
    removeIdentityCertificateListener: (l: IdentityListener) => remove(identityListeners, l),
  };
  return {
    current: () => pair,
    onChange: (handler) => handlers.add(handler),
    grpcCredentials: () => experimental.createCertificateProviderServerCredentials(provider, provider, false),
  };
}
