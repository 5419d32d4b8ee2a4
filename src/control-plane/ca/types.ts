// The certificate authority and the authenticators as the rest of the control plane sees them.
import type { Metadata } from '@grpc/grpc-js';
import type { SpiffeId } from '../../base/spiffe/spiffe-id.ts';

export interface CertificateAuthority {
  /** All current roots, PEM, concatenated. */
  rootBundlePem(): string;
  onRootChange(handler: () => void): () => void;
  /** Leaf first, root bundle last (identity.md §7). Rejects with {@link SigningError}. The CSR's own names are ignored. */
  signWorkload(csrPem: string, identities: readonly SpiffeId[], ttlSeconds: number): Promise<readonly string[]>;
  /** istiod's own serving certificate (identity.md §9.3). */
  issueServer(dnsNames: readonly string[]): Promise<{ readonly keyPem: string; readonly chainPem: string }>;
  close(): void;
}

export class SigningError extends Error {
  readonly code: 'csr' | 'ttl' | 'not-ready' | 'internal';
  constructor(code: SigningError['code'], message: string) {
    super(message);
    this.name = 'SigningError';
    this.code = code;
  }
}

export interface Caller {
  readonly identities: readonly SpiffeId[];
  readonly source: 'client-certificate' | 'token-review' | 'oidc';
  readonly podName?: string;
  readonly podUid?: string;
}

/** First authenticator that accepts wins; undefined = none did. `why` collects what each said, for the log only. */
export type Authenticate = (
  metadata: Metadata,
  peer: { readonly certificate?: { readonly raw: Buffer }; readonly address: string },
) => Promise<
  { readonly kind: 'caller'; readonly caller: Caller } | { readonly kind: 'refused'; readonly why: readonly string[] }
>;
