// PEM in and out, with limits: files, Secrets and wire messages are read through here.
import { X509Error } from './errors.ts';

/** A bundle with more certificates than this is refused. */
export const MAX_PEM_BLOCKS = 256;
/** No PEM text longer than this is looked at. */
export const MAX_PEM_BYTES = 1 << 20;
const BLOCK = /-----BEGIN ([A-Z0-9 ]{1,40})-----\r?\n([A-Za-z0-9+/=\s]*?)-----END \1-----/g;

export interface PemBlock {
  readonly label: string;
  readonly der: Buffer;
}

/** Every block of the text in order; text between blocks is allowed and ignored, as openssl does. */
export function readPem(text: string): readonly PemBlock[] {
  if (text.length > MAX_PEM_BYTES) throw new X509Error('too-large', `PEM text is longer than ${MAX_PEM_BYTES} bytes`);
  const blocks: PemBlock[] = [];
  for (const match of text.matchAll(BLOCK)) {
    if (blocks.length === MAX_PEM_BLOCKS)
      throw new X509Error('too-large', `PEM text has over ${MAX_PEM_BLOCKS} blocks`);
    const body = (match[2] ?? '').replace(/\s+/g, '');
    const der = Buffer.from(body, 'base64');
    // Buffer skips what is not base64; a block that does not come back the same was damaged.
    if (der.length === 0 || der.toString('base64').replace(/=+$/, '') !== body.replace(/=+$/, ''))
      throw new X509Error('pem', `the ${match[1]} block is not valid base64`);
    blocks.push({ label: match[1] ?? '', der });
  }
  return blocks;
}

/** The certificates of the text, at least one. `what` names the text in the error. */
export function readPemCertificates(text: string, what: string): readonly Buffer[] {
  const out = readPem(text).filter((block) => block.label === 'CERTIFICATE');
  if (out.length === 0) throw new X509Error('pem', `${what} holds no PEM certificate`);
  return out.map((block) => block.der);
}

/** With a newline at the end. */
export function writePem(label: string, der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}
