// What can be wrong with a certificate, request or key. Thrown by the parsers and signers of this folder.

export type X509ErrorCode =
  | 'pem'
  | 'der'
  | 'too-large'
  | 'unsupported'
  | 'weak-key'
  | 'signature'
  | 'not-a-ca'
  | 'expired'
  | 'key-mismatch'
  | 'template';

/** Messages never hold key material; safe to log and to send to the peer. */
export class X509Error extends Error {
  readonly code: X509ErrorCode;
  constructor(code: X509ErrorCode, message: string) {
    super(message);
    this.name = 'X509Error';
    this.code = code;
  }
}
