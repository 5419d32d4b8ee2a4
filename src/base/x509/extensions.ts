// The X.509 extensions and names we write and read: subject alternative names, usages, constraints, key identifiers.
// Called by certificate.ts and csr.ts.
import { isIP, isIPv4 } from 'node:net';
import {
  bitString,
  boolean,
  children,
  type DerNode,
  expectTag,
  implicit,
  integer,
  octetString,
  oid,
  readBoolean,
  readDer,
  readOid,
  sequence,
  set,
  TAG,
  tlv,
} from './der.ts';
import { X509Error } from './errors.ts';

export const OID = {
  commonName: '2.5.4.3',
  organization: '2.5.4.10',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyId: '2.5.29.35',
  subjectKeyId: '2.5.29.14',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
  extensionRequest: '1.2.840.113549.1.9.14',
} as const;

export type AltName =
  | { readonly kind: 'uri'; readonly value: string }
  | { readonly kind: 'dns'; readonly value: string }
  | { readonly kind: 'ip'; readonly value: string };

/** A certificate or CSR with more names than this is refused. */
export const MAX_ALT_NAMES = 256;
export type KeyUsage = 'digitalSignature' | 'keyEncipherment' | 'keyCertSign' | 'cRLSign';
const KEY_USAGE_BIT: Readonly<Record<KeyUsage, number>> = {
  digitalSignature: 0,
  keyEncipherment: 2,
  keyCertSign: 5,
  cRLSign: 6,
};

export interface Extension {
  readonly oid: string;
  readonly critical: boolean;
  readonly value: Buffer;
}

/** By shape, as Istio chooses: an IP literal, a `spiffe://` URI, else a DNS name. */
export function altName(text: string): AltName {
  if (isIP(text) !== 0) return { kind: 'ip', value: text };
  return text.startsWith('spiffe://') ? { kind: 'uri', value: text } : { kind: 'dns', value: text };
}

export function writeExtension(extension: Extension): Buffer {
  return extension.critical
    ? sequence(oid(extension.oid), boolean(true), octetString(extension.value))
    : sequence(oid(extension.oid), octetString(extension.value));
}

/** `SEQUENCE OF Extension`. A repeated extension is refused (RFC 5280 §4.2). */
export function readExtensions(node: DerNode): ReadonlyMap<string, Extension> {
  const out = new Map<string, Extension>();
  for (const item of children(expectTag(node, TAG.sequence, 'the extension list'))) {
    const parts = children(item);
    const name = readOid(parts[0]);
    const critical = parts.length === 3 && parts[1] !== undefined ? readBoolean(parts[1]) : false;
    const value = expectTag(parts[parts.length - 1], TAG.octetString, 'the value of an extension').content;
    if (out.has(name)) throw new X509Error('der', `extension ${name} stands twice`);
    out.set(name, { oid: name, critical, value });
  }
  return out;
}

export function altNamesExtension(names: readonly AltName[], critical: boolean): Extension {
  const parts = names.map((name) => {
    if (name.kind === 'ip') return implicit(7, ipBytes(name.value));
    if (!/^[\x21-\x7e]+$/.test(name.value))
      throw new X509Error('template', `the ${name.kind} name ${JSON.stringify(name.value)} is not plain ASCII`);
    return implicit(name.kind === 'uri' ? 6 : 2, Buffer.from(name.value, 'latin1'));
  });
  return { oid: OID.subjectAltName, critical, value: sequence(...parts) };
}

/** URI, DNS and IP names; other kinds are left out. */
export function readAltNames(extension: Extension | undefined): readonly AltName[] {
  if (!extension) return [];
  const nodes = children(expectTag(readDer(extension.value), TAG.sequence, 'the subject alternative names'));
  if (nodes.length > MAX_ALT_NAMES) throw new X509Error('too-large', `there are over ${MAX_ALT_NAMES} names`);
  const out: AltName[] = [];
  for (const { tag, content } of nodes) {
    if (tag === 0x86) out.push({ kind: 'uri', value: content.toString('latin1') });
    else if (tag === 0x82) out.push({ kind: 'dns', value: content.toString('latin1') });
    else if (tag === 0x87) out.push({ kind: 'ip', value: ipText(content) });
  }
  return out;
}

export function keyUsageExtension(usages: readonly KeyUsage[]): Extension {
  let bits = 0;
  let last = 0;
  for (const usage of usages) {
    bits |= 0x80 >> KEY_USAGE_BIT[usage];
    last = Math.max(last, KEY_USAGE_BIT[usage]);
  }
  return { oid: OID.keyUsage, critical: true, value: bitString(Buffer.from([bits]), 7 - last) };
}

export function readKeyUsage(extension: Extension | undefined): ReadonlySet<KeyUsage> {
  if (!extension) return new Set();
  const { content } = expectTag(readDer(extension.value), TAG.bitString, 'the key usage');
  const bits = content[1] ?? 0;
  const all = Object.entries(KEY_USAGE_BIT) as [KeyUsage, number][];
  return new Set(all.filter(([, bit]) => (bits & (0x80 >> bit)) !== 0).map(([usage]) => usage));
}

export function basicConstraintsExtension(isCa: boolean): Extension {
  return { oid: OID.basicConstraints, critical: true, value: isCa ? sequence(boolean(true)) : sequence() };
}

export function readIsCa(extension: Extension | undefined): boolean {
  if (!extension) return false;
  const [first] = children(expectTag(readDer(extension.value), TAG.sequence, 'the basic constraints'));
  return first?.tag === TAG.boolean && readBoolean(first);
}

export function extendedKeyUsageExtension(): Extension {
  return { oid: OID.extendedKeyUsage, critical: false, value: sequence(oid(OID.serverAuth), oid(OID.clientAuth)) };
}

export function subjectKeyIdExtension(id: Buffer): Extension {
  return { oid: OID.subjectKeyId, critical: false, value: octetString(id) };
}

export function authorityKeyIdExtension(id: Buffer): Extension {
  return { oid: OID.authorityKeyId, critical: false, value: sequence(implicit(0, id)) };
}

/** A distinguished name with at most one organization and one common name; `''` writes an empty value. */
export function writeName(name: { readonly organization?: string; readonly commonName?: string }): Buffer {
  const parts: Buffer[] = [];
  if (name.organization !== undefined)
    parts.push(set(sequence(oid(OID.organization), directoryString(name.organization))));
  if (name.commonName !== undefined) parts.push(set(sequence(oid(OID.commonName), directoryString(name.commonName))));
  return sequence(...parts);
}

function directoryString(text: string): Buffer {
  return /^[A-Za-z0-9 '()+,./:=?-]*$/.test(text)
    ? tlv(TAG.printableString, Buffer.from(text, 'latin1'))
    : tlv(TAG.utf8String, Buffer.from(text, 'utf8'));
}

/** The first value of this attribute in a distinguished name. */
export function nameAttribute(name: DerNode, attribute: string): string | undefined {
  for (const relative of children(expectTag(name, TAG.sequence, 'a name')))
    for (const pair of children(relative)) {
      const [type, value] = children(pair);
      if (readOid(type) === attribute) return value?.content.toString('utf8') ?? '';
    }
  return undefined;
}

function ipBytes(text: string): Buffer {
  if (isIPv4(text)) return Buffer.from(text.split('.').map(Number));
  const address = new URL(`http://[${text}]/`).hostname.slice(1, -1);
  const [head = '', tail] = address.split('::');
  const groups = (part: string | undefined) => (part ? part.split(':') : []);
  const front = groups(head);
  const back = groups(tail);
  const all = [...front, ...new Array<string>(8 - front.length - back.length).fill('0'), ...back];
  const out = Buffer.alloc(16);
  for (const [i, group] of all.entries()) out.writeUInt16BE(Number.parseInt(group, 16), i * 2);
  return out;
}

function ipText(bytes: Buffer): string {
  if (bytes.length === 4) return [...bytes].join('.');
  if (bytes.length !== 16) throw new X509Error('der', 'an IP name has neither 4 nor 16 bytes');
  const groups = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(i * 2).toString(16));
  return new URL(`http://[${groups.join(':')}]/`).hostname.slice(1, -1);
}

export const versionThree = (): Buffer => integer(Buffer.from([2]));
