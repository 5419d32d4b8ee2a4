// What came of one request, as the client saw it. Made by client-*.ts, compared by compare.ts.
import type { Code } from './format.ts';

export interface Outcome {
  readonly code: Code;
  /** What happened on the socket when it is not ok: `ECONNRESET`, `closed before an answer`. */
  readonly detail: string;
  /** 0 when there was no answer. */
  readonly status: number;
  /** Names in lower case, in the order of arrival. */
  readonly headers: readonly (readonly [string, string])[];
  readonly body: string;
  readonly grpcStatus?: string;
  readonly ms: number;
}

export function failed(code: Code, detail: string, ms: number): Outcome {
  return { code, detail, status: 0, headers: [], body: '', ms };
}

/** The socket error of a client, in MeshTest's words. */
export function codeOf(error: NodeJS.ErrnoException): Code {
  const code = error.code ?? '';
  if (code === 'ECONNREFUSED') return 'refused';
  if (code === 'ECONNRESET' || code === 'EPIPE') return 'reset';
  if (code.startsWith('ERR_SSL') || code.startsWith('ERR_TLS') || CERTIFICATE.has(code)) return 'tls';
  return 'reset';
}

const CERTIFICATE: ReadonlySet<string> = new Set([
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'CERT_HAS_EXPIRED',
]);
