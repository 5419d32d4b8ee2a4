// The narrow interface between bytes on a socket (plain or TLS) and everything above it: codecs, tcp_proxy, inspectors.
// A second implementation (OpenSSL called directly) can stand beside socket-transport.ts without a change above this line.
import type { X509Certificate } from 'node:crypto';
import type { SocketAddr } from '../config/address.ts';
import type { PeerCertificate } from './peer-certificate.ts';

/** What the other side of a TLS connection proved, and what was agreed. */
export interface TlsDetails {
  /** `TLSv1.2`, `TLSv1.3`. */
  readonly version: string;
  /** OpenSSL's name. */
  readonly cipher: string;
  /** Key exchange group: `X25519`, `P-256`, `X25519MLKEM768`; empty when unknown. */
  readonly group: string;
  /** The peer's signature algorithm by its IANA name; empty when this transport cannot tell. */
  readonly signature: string;
  /** The handshake took an earlier session up again. */
  readonly resumed: boolean;
  /** Hex; TLS 1.3 has none. */
  readonly sessionId: string;
  /** The ALPN value both sides agreed on; empty when none. */
  readonly alpn: string;
  /** The server name of the ClientHello (server side), or the one sent (client side). */
  readonly sni: string;
  /**
   * The peer's certificate passed every check, and somebody vouches for it: an authority, or its hash in the configuration. Names
   * of a peer that was let in without (ACCEPT_UNTRUSTED) are hearsay and prove nothing.
   */
  readonly peerVerified: boolean;
  readonly peerUris: readonly string[];
  readonly peerDns: readonly string[];
  /** RFC 2253 subject of the peer's certificate; empty for an empty subject. */
  readonly peerSubject: string;
  /** DER of the peer's leaf certificate. */
  readonly peerCertificate: Buffer | undefined;
  /** DER of what came with the leaf, in its order; only where something asks for it. */
  readonly peerChain: readonly Buffer[];
  /** Who issued the peer's certificate, on its path to a trusted one; only where something asks, and not of a resumed handshake. */
  readonly peerIssuer?: PeerCertificate | undefined;
  /** All facts of that leaf. */
  readonly peer: PeerCertificate | undefined;
  /** URI and DNS SANs and subject of our own certificate. */
  readonly localUris: readonly string[];
  readonly localDns: readonly string[];
  readonly localSubject: string;
  readonly localCertificate: X509Certificate | undefined;
}

/** Why a connection ended badly. `reason` is Envoy's "transport failure reason" or a socket error code. */
export interface TransportFailure {
  readonly kind: 'tls' | 'reset' | 'timeout' | 'io';
  readonly reason: string;
}

/** Receives what happens on a connection. Calls never overlap. */
export interface TransportSink {
  /** `bytes[start, end)` is valid only during the call: copy what must live longer. */
  onData(bytes: Buffer, start: number, end: number): void;
  /** The peer will send no more. */
  onEnd(): void;
  /** True: stop giving bytes to this transport; false: go on. */
  onBacklog(full: boolean): void;
  /** Last call, once. */
  onClose(failure: TransportFailure | undefined): void;
}

export interface Transport {
  readonly tls: TlsDetails | undefined;
  readonly local: SocketAddr;
  readonly remote: SocketAddr;
  readonly closed: boolean;
  /** The peer ended or broke the connection, which need not be closed yet. */
  readonly peerEnded: boolean;
  /** Bytes written and not yet taken by the kernel. */
  readonly backlogBytes: number;
  bytesRead: number;
  bytesWritten: number;
  /** Bytes that came before (read by an inspector) are delivered first. */
  start(sink: TransportSink): void;
  /** Changes who receives: a connection goes from one protocol to another. */
  redirect(sink: TransportSink): void;
  /** Offset in `arena.buffer` with room for `size` bytes (≤ half the arena). Follow with `commit`. */
  reserve(size: number): number;
  /** Everything from the reserved offset to `end` is to be sent. */
  commit(end: number): void;
  /** Copies and sends `bytes[start, end)`. */
  write(bytes: Buffer, start: number, end: number): void;
  /**
   * Like `write`, without a copy of what the kernel takes at once; for byte pumps. True when it took everything: then the
   * side the bytes come from may set `bulk`.
   */
  forward(bytes: Buffer, start: number, end: number): boolean;
  /** Reads may be as large as a megabyte: set by byte pumps while the other side keeps up. */
  bulk: boolean;
  pause(): void;
  resume(): void;
  /** Sends what is waiting, then closes our direction. */
  end(): void;
  /** Sends what is waiting, then closes both directions. */
  closeSoon(): void;
  /** Closes both directions; what is waiting is lost. */
  destroy(): void;
  /** Closes with RST. */
  reset(): void;
}
