// The mesh's own root: made once, kept in the Secret `istio-ca-secret`, rotated before it expires (identity.md §9.1, §9.2).
// Called by load.ts. Two istiods may do this at the same time: the API server decides who was first.
import { SECRETS, type Secret } from '../../api/kubernetes/secret.ts';
import { type KubeClient, KubeError } from '../../base/kube/types.ts';
import type { Clock } from '../../base/runtime/clock.ts';
import { certificatePem, issueRoot } from '../../base/x509/certificate.ts';
import { generateKey, type KeyKind, writePrivateKey } from '../../base/x509/keys.ts';
import { readSigningMaterial, type SigningMaterial } from './signing-material.ts';

export const CA_SECRET = 'istio-ca-secret';
const CA_SECRET_TYPE = 'istio.io/ca-root';
/** A root with less than this part of its life left is replaced. */
export const ROTATION_GRACE = 0.2;
/** Two istiods can only lose to each other this often before something else is wrong. */
const MAX_CONFLICTS = 5;

export interface RootOptions {
  readonly trustDomain: string;
  readonly keyKind: KeyKind;
  readonly rootTtlMs: number;
  readonly clock: Clock;
  readonly random: (bytes: number) => Buffer;
  /** Further roots to trust, PEM; may be empty. */
  readonly extraRootsPem: string;
}

export async function createRoot(options: RootOptions): Promise<SigningMaterial> {
  const key = await generateKey(options.keyKind);
  const certificate = await issueRoot({
    key,
    organization: options.trustDomain,
    now: options.clock.now(),
    ttlMs: options.rootTtlMs,
    random: options.random,
  });
  const pem = certificatePem(certificate);
  return readSigningMaterial({
    certificate: pem,
    key: writePrivateKey(key, 'pkcs8'),
    chain: '',
    roots: pem + options.extraRootsPem,
  });
}

/** The Secret's root, made when there is none yet. */
export async function loadOrCreateRoot(
  client: KubeClient,
  namespace: string,
  options: RootOptions,
): Promise<{ readonly material: SigningMaterial; readonly created: boolean }> {
  const stored = await readSecret(client, namespace);
  if (stored) return { material: fromSecret(stored, namespace, options), created: false };
  const material = await createRoot(options);
  try {
    await client.create<Secret>(SECRETS, secretOf(namespace, material));
    return { material, created: true };
  } catch (error) {
    if (!(error instanceof KubeError) || error.code !== 409) throw error;
    // Another istiod was first: its root is the mesh's root.
    const theirs = await readSecret(client, namespace);
    if (!theirs) throw error;
    return { material: fromSecret(theirs, namespace, options), created: false };
  }
}

export type RotationCheck =
  | { readonly kind: 'unchanged' }
  | { readonly kind: 'reloaded' | 'rotated' | 'restored'; readonly material: SigningMaterial };

/**
 * One look at the Secret: another istiod's newer root is taken over, an old root is re-signed with the same key.
 * The Secret is written before the result is returned, so memory is never ahead of it.
 */
export async function checkRoot(
  client: KubeClient,
  namespace: string,
  current: SigningMaterial,
  options: RootOptions,
): Promise<RotationCheck> {
  for (let attempt = 0; attempt < MAX_CONFLICTS; attempt += 1) {
    const stored = await readSecret(client, namespace);
    if (!stored) {
      const restored = await loadWhatWeHave(client, namespace, current, options);
      if (restored) return restored;
      continue;
    }
    const theirs = fromSecret(stored, namespace, options);
    if (!theirs.issuer.certificate.der.equals(current.issuer.certificate.der))
      return { kind: 'reloaded', material: theirs };
    if (!isOld(current, options.clock.now())) return { kind: 'unchanged' };
    const renewed = await resign(current, options);
    try {
      await client.update<Secret>(SECRETS, { ...secretOf(namespace, renewed), metadata: stored.metadata });
      return { kind: 'rotated', material: renewed };
    } catch (error) {
      if (!(error instanceof KubeError) || error.code !== 409) throw error;
    }
  }
  throw new Error(`Secret ${namespace}/${CA_SECRET} changed ${MAX_CONFLICTS} times while the root was checked`);
}

/** Somebody deleted the Secret: the root everybody trusts goes back into it. */
async function loadWhatWeHave(
  client: KubeClient,
  namespace: string,
  current: SigningMaterial,
  options: RootOptions,
): Promise<RotationCheck | undefined> {
  const material = isOld(current, options.clock.now()) ? await resign(current, options) : current;
  try {
    await client.create<Secret>(SECRETS, secretOf(namespace, material));
    return { kind: 'restored', material };
  } catch (error) {
    if (error instanceof KubeError && error.code === 409) return undefined;
    throw error;
  }
}

function isOld(material: SigningMaterial, now: number): boolean {
  const { notBefore, notAfter } = material.issuer.certificate;
  return notAfter - now < (notAfter - notBefore) * ROTATION_GRACE;
}

async function resign(old: SigningMaterial, options: RootOptions): Promise<SigningMaterial> {
  const certificate = await issueRoot({
    key: old.issuer.key,
    organization: options.trustDomain,
    rawSubject: old.issuer.certificate.rawSubject,
    now: options.clock.now(),
    ttlMs: options.rootTtlMs,
    random: options.random,
  });
  const pem = certificatePem(certificate);
  return readSigningMaterial({
    certificate: pem,
    key: writePrivateKey(old.issuer.key, 'pkcs8'),
    chain: '',
    roots: pem + options.extraRootsPem,
  });
}

async function readSecret(client: KubeClient, namespace: string): Promise<Secret | undefined> {
  try {
    return await client.get<Secret>(SECRETS, namespace, CA_SECRET);
  } catch (error) {
    if (error instanceof KubeError && error.code === 404) return undefined;
    throw error;
  }
}

function fromSecret(secret: Secret, namespace: string, options: RootOptions): SigningMaterial {
  const text = (key: string): string => Buffer.from(secret.data?.[key] ?? '', 'base64').toString('utf8');
  try {
    return readSigningMaterial({
      certificate: text('ca-cert.pem'),
      key: text('ca-key.pem'),
      chain: text('cert-chain.pem'),
      roots: `${text('root-cert.pem') || text('ca-cert.pem')}\n${options.extraRootsPem}`,
    });
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Error(
      `Secret ${namespace}/${CA_SECRET} holds no usable CA (${why}); mend it, or delete it for a new root`,
    );
  }
}

function secretOf(namespace: string, material: SigningMaterial): Secret {
  const base64 = (text: string): string => Buffer.from(text, 'utf8').toString('base64');
  const pem = certificatePem(material.issuer.certificate);
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: CA_SECRET, namespace },
    type: CA_SECRET_TYPE,
    data: {
      'ca-cert.pem': base64(pem),
      'ca-key.pem': base64(writePrivateKey(material.issuer.key, 'traditional')),
      'cert-chain.pem': '',
      'key.pem': '',
      'root-cert.pem': base64(pem),
    },
  };
}
