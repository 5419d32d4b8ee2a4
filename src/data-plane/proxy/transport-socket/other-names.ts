// The otherName entries of a certificate's subject alternative names (RFC 5280 §4.2.1.6), which Node does not read: their
// values as text, in Envoy's form. Called when a log or a header value asks for them.
import { children, type DerNode, expectTag, readDer, readOid, TAG } from '../../../base/x509/der.ts';
import { OID, readExtensions } from '../../../base/x509/extensions.ts';
import { utf8Bytes } from '../http/header-map.ts';

const OTHER_NAME = 0xa0;
const VALUE = 0xa0;
const ENUMERATED = 0x0a;
const UNIVERSAL_STRING = 0x1c;
const BMP_STRING = 0x1e;
/** Of a number that is worth its digits. */
const MAX_INTEGER_BYTES = 256;
const EXTENSIONS = 0xa3;
/** Types whose bytes are printed as they are: octets and the strings and times of ASN.1. */
const AS_IT_IS: ReadonlySet<number> = new Set([
  TAG.octetString,
  TAG.utf8String,
  TAG.printableString,
  TAG.ia5String,
  TAG.utcTime,
  TAG.generalizedTime,
  /** T61, Visible, General. */
  0x14,
  0x1a,
  0x1b,
]);

/**
 * Byte strings, as headers are. Empty for a certificate that cannot be read, too: what is asked for is only shown.
 */
export function otherNamesOf(der: Buffer): readonly string[] {
  try {
    const [body] = children(readDer(der));
    const tail = body && children(body).find(({ tag }) => tag === EXTENSIONS);
    const list = tail && children(tail)[0];
    const extension = list && readExtensions(list).get(OID.subjectAltName);
    if (!extension) return [];
    const names = children(expectTag(readDer(extension.value), TAG.sequence, 'the subject alternative names'));
    return names.filter(({ tag }) => tag === OTHER_NAME).map(otherName);
  } catch {
    return [];
  }
}

function otherName(name: DerNode): string {
  const wrapped = children(name)[1];
  const value = wrapped?.tag === VALUE ? children(wrapped)[0] : undefined;
  return value ? textOf(value) : '';
}

function textOf(value: DerNode): string {
  const { tag, content } = value;
  if (AS_IT_IS.has(tag)) return content.toString('latin1');
  switch (tag) {
    case TAG.boolean:
      return content[0] === 0 ? 'false' : 'true';
    case TAG.integer:
    case ENUMERATED:
      return integerText(content);
    case TAG.oid:
      return readOid(value);
    case TAG.bitString:
      return content.subarray(1).toString('latin1');
    case TAG.sequence:
    case TAG.set:
      return value.raw.toString('latin1');
    case BMP_STRING:
      return utf8Bytes(wide(content, 2));
    case UNIVERSAL_STRING:
      return utf8Bytes(wide(content, 4));
    default:
      return '';
  }
}

/** Two's complement of any length, in decimal. */
function integerText(content: Buffer): string {
  if (content.length === 0 || content.length > MAX_INTEGER_BYTES) return '';
  return String(BigInt.asIntN(8 * content.length, BigInt(`0x${content.toString('hex')}`)));
}

/** Big-endian characters of 2 or 4 bytes, up to the first NUL. */
function wide(content: Buffer, size: 2 | 4): string {
  let text = '';
  for (let at = 0; at + size <= content.length; at += size) {
    const point = content.readUIntBE(at, size);
    if (point === 0) break;
    if (point > 0x10ffff) return '';
    text += size === 2 ? String.fromCharCode(point) : String.fromCodePoint(point);
  }
  return text;
}
