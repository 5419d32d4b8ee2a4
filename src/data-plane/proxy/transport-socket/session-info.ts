// What a serialized TLS session says about the handshake that made it: Node tells the negotiated group and the session id
// nowhere else. The form is OpenSSL's SSL_SESSION in DER. Called by TLSSocket handshakes.
import { children, readDer, TAG } from '../../../base/x509/der.ts';

export interface SessionInfo {
  /** Name of the key exchange group as Envoy's stats have it; empty when there was none or it is unknown. */
  readonly group: string;
  /** Hex. */
  readonly id: string;
}

/** Context tag of `kex_group`. */
const GROUP_TAG = 0xb3;

/** RFC 8446 §4.2.7 numbers and BoringSSL's names. */
export const GROUP_NAMES: Readonly<Record<number, string>> = {
  23: 'P-256',
  24: 'P-384',
  25: 'P-521',
  29: 'X25519',
  4587: 'SecP256r1MLKEM768',
  4588: 'X25519MLKEM768',
  4589: 'SecP384r1MLKEM1024',
};

const NOTHING: SessionInfo = { group: '', id: '' };

export function readSession(session: Buffer | undefined): SessionInfo {
  if (!session) return NOTHING;
  try {
    const fields = children(readDer(session));
    const id = fields[3]?.tag === TAG.octetString ? fields[3].content.toString('hex') : '';
    const wrapped = fields.find((field) => field.tag === GROUP_TAG);
    const number = wrapped ? children(wrapped)[0] : undefined;
    const group = number && number.content.length <= 4 ? number.content.readUIntBE(0, number.content.length) : 0;
    return { id, group: GROUP_NAMES[group] ?? '' };
  } catch {
    return NOTHING;
  }
}
