// PKCS#10 certificate requests: made by the agent, read and checked by the CA. The reader takes hostile input.
import { createPublicKey, type KeyObject } from 'node:crypto';
import {
  bitString,
  children,
  expectTag,
  explicit,
  integer,
  oid,
  readDer,
  readOid,
  readWholeBits,
  sequence,
  set,
  TAG,
} from './der.ts';
import { X509Error } from './errors.ts';
import {
  type AltName,
  altNamesExtension,
  nameAttribute,
  OID,
  readAltNames,
  readExtensions,
  writeExtension,
  writeName,
} from './extensions.ts';
import { checkKeyStrength, publicKeyDer, signatureAlgorithm, signBytes, verifyBytes } from './keys.ts';
import { readPem, writePem } from './pem.ts';

/** A request is a key and a few names; nothing honest is larger. */
export const MAX_CSR_BYTES = 32 * 1024;

export interface CertificateRequest {
  readonly publicKey: KeyObject;
  readonly hasCommonName: boolean;
  /** What was asked for. The CA does not grant it. */
  readonly altNames: readonly AltName[];
}

/** A request with one empty organization, as Istio's agents write it, and critical names. */
export async function createCsr(key: KeyObject, names: readonly AltName[]): Promise<string> {
  const attribute = sequence(oid(OID.extensionRequest), set(sequence(writeExtension(altNamesExtension(names, true)))));
  const info = sequence(
    integer(Buffer.from([0])),
    writeName({ organization: '' }),
    publicKeyDer(createPublicKey(key)),
    explicit(0, attribute),
  );
  const der = sequence(info, signatureAlgorithm(key).der, bitString(await signBytes(key, info)));
  return writePem('CERTIFICATE REQUEST', der);
}

/** Reads one PEM request, checks its own signature and the strength of its key. Throws X509Error. */
export function readCsr(pem: string): CertificateRequest {
  if (pem.length > MAX_CSR_BYTES) throw new X509Error('too-large', `the CSR is larger than ${MAX_CSR_BYTES} bytes`);
  const blocks = readPem(pem);
  const [block] = blocks;
  if (!block || blocks.length > 1 || !block.label.endsWith('CERTIFICATE REQUEST'))
    throw new X509Error('pem', 'the CSR is not one PEM block of type CERTIFICATE REQUEST');
  const [info, algorithm, signature] = children(expectTag(readDer(block.der), TAG.sequence, 'the CSR'));
  const body = expectTag(info, TAG.sequence, 'the CSR body');
  const [version, subject, spki, attributes] = children(body);
  if (expectTag(version, TAG.integer, 'the CSR version').content.toString('hex') !== '00')
    throw new X509Error('unsupported', 'the CSR is not of version 1');
  const name = expectTag(subject, TAG.sequence, 'the CSR subject');
  const publicKey = readKey(expectTag(spki, TAG.sequence, 'the public key of the CSR').raw);
  // Strength first: it also bounds what checking the signature may cost.
  checkKeyStrength(publicKey);
  const algorithmOid = readOid(children(expectTag(algorithm, TAG.sequence, 'the signature algorithm'))[0]);
  if (!verifyBytes(algorithmOid, publicKey, body.raw, readWholeBits(signature, 'the signature')))
    throw new X509Error('signature', 'the CSR is not signed by the key it carries');
  return {
    publicKey,
    hasCommonName: (nameAttribute(name, OID.commonName) ?? '') !== '',
    altNames: attributes?.tag === 0xa0 ? requestedNames(attributes) : [],
  };
}

function requestedNames(attributes: Parameters<typeof children>[0]): readonly AltName[] {
  for (const attribute of children(attributes)) {
    const [type, values] = children(attribute);
    if (readOid(type) !== OID.extensionRequest) continue;
    const [list] = children(expectTag(values, TAG.set, 'the extension request'));
    if (list) return readAltNames(readExtensions(list).get(OID.subjectAltName));
  }
  return [];
}

function readKey(spki: Buffer): KeyObject {
  try {
    return createPublicKey({ key: spki, format: 'der', type: 'spki' });
  } catch {
    throw new X509Error('unsupported', 'the public key of the CSR cannot be read: use RSA, P-256 or P-384');
  }
}
