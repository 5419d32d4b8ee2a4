// What a header block of HTTP/2 says beside its regular fields. One object a session, filled by the HPACK decoder.
import type { BodyKind, Protocol, RequestHead } from './codec.ts';

/** Why the fields of a block are refused; empty = they are in order. */
export type HeadProblem =
  | ''
  | 'too-large'
  | 'too-many'
  | 'invalid-field'
  | 'invalid-pseudo-header'
  | 'invalid-content-length';

export class H2Head implements RequestHead {
  readonly protocol: Protocol = 'HTTP/2';
  method = '';
  target = '';
  scheme = '';
  status = 0;
  upgrade = '';
  body: BodyKind = 'none';
  /** `:protocol` of an extended CONNECT. */
  protocolText = '';
  contentLength = -1;
  /** Bytes of the block with its frame. */
  wireBytes = 0;
  /** Bytes of all names and values, as they are without HPACK. */
  fieldBytes = 0;
  /** There was an `:authority`. */
  authority = false;
  /** Pseudo-headers seen, a bit each, and whether a regular field came. */
  pseudo = 0;
  regular = false;
  cookies = 0;
  problem: HeadProblem = '';

  clear(): void {
    this.method = '';
    this.target = '';
    this.scheme = '';
    this.status = 0;
    this.upgrade = '';
    this.body = 'none';
    this.protocolText = '';
    this.contentLength = -1;
    this.authority = false;
    this.pseudo = 0;
    this.regular = false;
    this.cookies = 0;
    this.problem = '';
  }

  /** The first problem counts; one of size is kept apart because it has its own answer. */
  refuse(problem: HeadProblem): void {
    if (this.problem === '') this.problem = problem;
  }
}
