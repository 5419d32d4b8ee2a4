// Key pairs and signatures: which kinds and sizes are good enough, and how each is written in DER.
// Called by the CSR and certificate files beside it, the CA and the agent.
import { constants, createHash, createPrivateKey, generateKeyPair, type KeyObject, sign, verify } from 'node:crypto';
import { promisify } from 'node:util';
import { children, oid, readDer, readWholeBits, sequence, TAG, tlv } from './der.ts';
import { X509Error } from './errors.ts';

export type KeyKind = 'rsa-2048' | 'rsa-3072' | 'rsa-4096' | 'p256' | 'p384';
export const MIN_RSA_BITS = 2048;
/** Verification cost grows with size and exponent: a peer must not choose either freely. */
export const MAX_RSA_BITS = 8192;
const MAX_RSA_EXPONENT = 0xffffffffn;

const generate = promisify(generateKeyPair);

export async function generateKey(kind: KeyKind): Promise<KeyObject> {
  if (kind === 'p256' || kind === 'p384')
    return (await generate('ec', { namedCurve: kind === 'p256' ? 'prime256v1' : 'secp384r1' })).privateKey;
  return (await generate('rsa', { modulusLength: Number(kind.slice(4)), publicExponent: 0x10001 })).privateKey;
}

/** Throws X509Error `weak-key` or `unsupported` unless the key is RSA of 2048 bits or more, P-256 or P-384. */
export function checkKeyStrength(key: KeyObject): void {
  const details = key.asymmetricKeyDetails;
  if (key.asymmetricKeyType === 'rsa') {
    const bits = details?.modulusLength ?? 0;
    const exponent = details?.publicExponent ?? 0n;
    if (bits < MIN_RSA_BITS)
      throw new X509Error('weak-key', `RSA key of ${bits} bits is too weak: at least ${MIN_RSA_BITS} are needed`);
    if (bits > MAX_RSA_BITS)
      throw new X509Error('unsupported', `RSA key of ${bits} bits is too large: at most ${MAX_RSA_BITS} are taken`);
    if (exponent < 3n || exponent > MAX_RSA_EXPONENT || exponent % 2n === 0n)
      throw new X509Error('weak-key', 'the public exponent of the RSA key is not acceptable');
    return;
  }
  if (key.asymmetricKeyType === 'ec') {
    if (details?.namedCurve === 'prime256v1' || details?.namedCurve === 'secp384r1') return;
    throw new X509Error('weak-key', `curve ${details?.namedCurve ?? 'unknown'} is not taken: use P-256 or P-384`);
  }
  throw new X509Error(
    'unsupported',
    `key type ${key.asymmetricKeyType ?? 'unknown'} is not taken: use RSA of ${MIN_RSA_BITS} bits or more, P-256 or P-384`,
  );
}

interface SignatureKind {
  readonly hash: 'sha256' | 'sha384' | 'sha512';
  readonly key: 'rsa' | 'ec';
}
const SIGNATURES: Readonly<Record<string, SignatureKind>> = {
  '1.2.840.113549.1.1.11': { hash: 'sha256', key: 'rsa' },
  '1.2.840.113549.1.1.12': { hash: 'sha384', key: 'rsa' },
  '1.2.840.113549.1.1.13': { hash: 'sha512', key: 'rsa' },
  '1.2.840.10045.4.3.2': { hash: 'sha256', key: 'ec' },
  '1.2.840.10045.4.3.3': { hash: 'sha384', key: 'ec' },
  '1.2.840.10045.4.3.4': { hash: 'sha512', key: 'ec' },
};

/** How this key signs: RSA and P-256 with SHA-256, P-384 with SHA-384. */
export function signatureAlgorithm(key: KeyObject): { readonly hash: 'sha256' | 'sha384'; readonly der: Buffer } {
  if (key.asymmetricKeyType === 'rsa')
    return { hash: 'sha256', der: sequence(oid('1.2.840.113549.1.1.11'), tlv(TAG.null)) };
  return key.asymmetricKeyDetails?.namedCurve === 'secp384r1'
    ? { hash: 'sha384', der: sequence(oid('1.2.840.10045.4.3.3')) }
    : { hash: 'sha256', der: sequence(oid('1.2.840.10045.4.3.2')) };
}

/** Off the main thread; the result is the signature as it stands in the BIT STRING. */
export function signBytes(key: KeyObject, bytes: Buffer): Promise<Buffer> {
  const { hash } = signatureAlgorithm(key);
  return new Promise((resolve, reject) =>
    sign(hash, bytes, { key, padding: padding(key) }, (error, signature) =>
      error ? reject(error) : resolve(signature),
    ),
  );
}

/** Checks a signature by the algorithm OID it was made with. Throws `unsupported` for an OID not in the table (SHA-1, PSS …). */
export function verifyBytes(algorithmOid: string, key: KeyObject, bytes: Buffer, signature: Buffer): boolean {
  const kind = SIGNATURES[algorithmOid];
  if (!kind)
    throw new X509Error('unsupported', `signature algorithm ${algorithmOid} is not taken: use RSA or ECDSA with SHA-2`);
  if (kind.key !== key.asymmetricKeyType) return false;
  try {
    return verify(kind.hash, bytes, { key, padding: padding(key) }, signature);
  } catch {
    return false;
  }
}

function padding(key: KeyObject): number | undefined {
  return key.asymmetricKeyType === 'rsa' ? constants.RSA_PKCS1_PADDING : undefined;
}

/** Any unencrypted private key in PEM. Throws X509Error; the text never reaches the message. */
export function readPrivateKey(pem: string): KeyObject {
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch {
    throw new X509Error('pem', 'the private key is not an unencrypted PEM key');
  }
  checkKeyStrength(key);
  return key;
}

/** PKCS#8 (`PRIVATE KEY`), or the type's own form (`RSA PRIVATE KEY`, `EC PRIVATE KEY`). */
export function writePrivateKey(key: KeyObject, form: 'pkcs8' | 'traditional'): string {
  if (form === 'pkcs8') return key.export({ type: 'pkcs8', format: 'pem' }).toString();
  return key.export({ type: key.asymmetricKeyType === 'rsa' ? 'pkcs1' : 'sec1', format: 'pem' }).toString();
}

/** RFC 5280 method 1: SHA-1 of the key bits. An identifier, not a signature. */
export function keyIdentifier(spki: Buffer): Buffer {
  const [, bits] = children(readDer(spki));
  return createHash('sha1').update(readWholeBits(bits, 'the public key')).digest();
}

/** SubjectPublicKeyInfo of a public or private key. */
export function publicKeyDer(publicKey: KeyObject): Buffer {
  return publicKey.export({ type: 'spki', format: 'der' });
}
