// Opens a connection to an upstream host, plain or TLS. Called by connection pools and tcp_proxy.
import { connect, type NetConnectOpts, Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls';
import type { Clock } from '../../../base/runtime/clock.ts';
import type { SocketAddr } from '../config/address.ts';
import { addressText } from '../config/address.ts';
import { boundSocket, setOption } from '../listener/raw-socket.ts';
import type { RawOption } from '../listener/socket-settings.ts';
import { type PassesTlv, type Tlv, writeProxyHeader } from '../listener-filter/proxy-protocol.ts';
import type { Counter } from '../stats/stats.ts';
import { systemReason } from '../system-words.ts';
import { noteConnectTimes } from './connect-times.ts';
import { dialInTurns } from './happy-eyeballs.ts';
import { connectDirect } from './openssl/connect.ts';
import { coversHost } from './san.ts';
import { failureOf, SocketTransport } from './socket-transport.ts';
import { UNSPOKEN } from './tls-accept.ts';
import type { TlsContext } from './tls-context.ts';
import { detailsOf, evidenceOf } from './tls-details.ts';
import { unnamedText, verifyFailedText } from './tls-reasons.ts';
import type { TlsCounters } from './tls-stats.ts';
import type { Transport } from './transport.ts';

export interface UpstreamTls {
  readonly kind: 'tls';
  readonly context: TlsContext;
  readonly sni: string;
  readonly counters: TlsCounters;
  readonly proxyProtocol?: ProxyHeaderSettings;
}
/** `proxyProtocol`: a PROXY protocol header comes before everything else. */
export type UpstreamSocket = { readonly kind: 'raw'; readonly proxyProtocol?: ProxyHeaderSettings } | UpstreamTls;

export interface ProxyHeaderSettings {
  readonly version: 1 | 2;
  /** Which of the client's TLVs go along; undefined = none. */
  readonly passes: PassesTlv | undefined;
  /** TLVs of the configuration; they stand before the client's and in place of those of their types. */
  readonly added: readonly Tlv[];
  /** Headers that went without TLVs because those were too long. */
  readonly tooLong: Counter;
}

/** For whom a connection is made: what a PROXY protocol header says. */
export interface ProxiedFor {
  readonly remote: SocketAddr;
  readonly local: SocketAddr;
  readonly proxyTlvs?: readonly Tlv[] | undefined;
}

/** Numbers of TCP keepalive; undefined = the system's. */
export interface KeepAlive {
  readonly probes: number | undefined;
  readonly timeS: number | undefined;
  readonly intervalS: number | undefined;
}

/** What a cluster says about its sockets to one host. */
export interface UpstreamSource {
  /** Address to bind; undefined = any. */
  readonly ip: string | undefined;
  readonly port: number;
  readonly options: readonly RawOption[];
  readonly keepAlive: KeepAlive | undefined;
  /** All addresses of the host in the order they are tried; empty = only the target. */
  targets(): readonly SocketAddr[];
}

export interface DialOptions {
  readonly target: SocketAddr;
  /** How the socket is made, when there is something to say about it. */
  readonly source: UpstreamSource | undefined;
  readonly timeoutMs: number;
  readonly socket: UpstreamSocket;
  /** ALPN list that replaces the one of the TLS context. */
  readonly alpn: readonly string[] | undefined;
  /** Server name taken from the request (auto_sni), and whether the certificate must be for it. */
  readonly host: { readonly name: string; readonly verify: boolean } | undefined;
  readonly keepAlive: boolean;
  /** Istio's TCP metadata exchange may be offered: who dials will speak it. */
  readonly exchange?: boolean;
  /** Undefined = for ourselves. */
  readonly proxiedFor?: ProxiedFor | undefined;
  readonly clock: Clock;
}

export type DialResult =
  | { readonly kind: 'connected'; readonly transport: Transport }
  /** `timeout`: nobody answered in time; `failed`: refused, unreachable, or TLS said no (`reason` as Envoy prints it). */
  | { readonly kind: 'timeout' }
  | { readonly kind: 'failed'; readonly reason: string };

/** Calls `done` exactly once, never synchronously. The returned function gives up silently. */
export function dial(options: DialOptions, done: (result: DialResult) => void): () => void {
  const targets = options.source?.targets() ?? [];
  if (targets.length < 2) return dialOne(options, done);
  return dialInTurns(targets, options.clock, (target, tried) => dialOne({ ...options, target }, tried), done);
}

function dialOne(options: DialOptions, done: (result: DialResult) => void): () => void {
  let finished = false;
  let current: Socket;
  const finish = (result: DialResult): void => {
    if (finished) return;
    finished = true;
    cancelTimer();
    if (result.kind !== 'connected') current.destroy();
    done(result);
  };
  const cancelTimer = options.clock.after(options.timeoutMs, () => finish({ kind: 'timeout' }));
  const { target, clock } = options;
  const begin = clock.now();
  const plain = open(options);
  current = plain;
  const refused = (error: NodeJS.ErrnoException): void => finish({ kind: 'failed', reason: connectReason(error) });
  plain.once('error', refused);
  plain.once('connect', () => {
    if (finished) return;
    const connected = clock.now();
    const { socket, source } = options;
    if (source?.keepAlive) setKeepAlive(plain, source.keepAlive);
    const addresses = { local: localOf(plain), remote: target };
    if (socket.proxyProtocol) plain.write(proxyHeader(socket.proxyProtocol, options.proxiedFor));
    if (socket.kind === 'raw') {
      plain.removeListener('error', refused);
      const transport = new SocketTransport(plain, addresses);
      noteConnectTimes(transport, { begin, connected, secured: -1 });
      return finish({ kind: 'connected', transport });
    }
    handshake(plain, socket, options, (result, wrapped) => {
      if (wrapped) current = wrapped;
      if (result.kind === 'connected') {
        plain.removeListener('error', refused);
        noteConnectTimes(result.transport, { begin, connected, secured: clock.now() });
      }
      finish(result);
    });
  });
  return () => {
    if (finished) return;
    finished = true;
    cancelTimer();
    current.destroy();
  };
}

function proxyHeader(settings: ProxyHeaderSettings, client: ProxiedFor | undefined): Buffer {
  const { version, passes, added, tooLong } = settings;
  const nobody: SocketAddr = { kind: 'pipe', path: '' };
  const passed =
    passes && client?.proxyTlvs?.filter(({ type }) => passes(type) && !added.some((own) => own.type === type));
  return writeProxyHeader(
    version,
    client?.remote ?? nobody,
    client?.local ?? nobody,
    passed ? [...added, ...passed] : added,
    () => {
      tooLong.value += 1;
    },
  );
}

function open(options: DialOptions): Socket {
  const { target, source, keepAlive } = options;
  const common = { noDelay: true, keepAlive, allowHalfOpen: true };
  if (target.kind === 'pipe') return connect({ ...common, path: target.path });
  const where: NetConnectOpts = { ...common, host: target.ip, port: target.port };
  if (!source) return connect(where);
  if (source.options.length === 0)
    return connect({
      ...where,
      ...(source.ip === undefined ? {} : { localAddress: source.ip }),
      ...(source.port === 0 ? {} : { localPort: source.port }),
    });
  const any = target.ip.includes(':') ? '::' : '0.0.0.0';
  try {
    const from = { kind: 'ip', ip: source.ip ?? any, port: source.port } as const;
    const fd = boundSocket(from, source.options, { reusePort: false, ipv4Compat: false });
    return new Socket({ fd, allowHalfOpen: true }).setNoDelay(true).setKeepAlive(keepAlive).connect(where);
  } catch (error) {
    // As a connection that fails, in the next turn.
    const broken = new Socket();
    process.nextTick(() => broken.destroy(error instanceof Error ? error : new Error(String(error))));
    return broken;
  }
}

const IPPROTO_TCP = 6;
const TCP_KEEPIDLE = 4;
const TCP_KEEPINTVL = 5;
const TCP_KEEPCNT = 6;

/** Numbers that Node has no way to set. */
function setKeepAlive(socket: Socket, { timeS, intervalS, probes }: KeepAlive): void {
  const { _handle } = socket as Socket & { _handle?: { fd?: number } };
  const fd = _handle?.fd;
  if (fd === undefined || fd < 0) return;
  for (const [name, value] of [
    [TCP_KEEPIDLE, timeS],
    [TCP_KEEPINTVL, intervalS],
    [TCP_KEEPCNT, probes],
  ] as const)
    if (value !== undefined && value > 0) setOption(fd, { level: IPPROTO_TCP, name, value });
}

function handshake(
  plain: Socket,
  tls: UpstreamTls,
  options: DialOptions,
  done: (result: DialResult, wrapped?: TLSSocket) => void,
): void {
  const { context } = tls;
  const opened = context.clientContext();
  if (!opened) {
    tls.counters.notReady.value += 1;
    done({ kind: 'failed', reason: 'TLS_error:Secret is not supplied by SDS' });
    return;
  }
  const alpn = (options.alpn ?? tls.context.alpn).filter((name) => options.exchange || !UNSPOKEN.has(name));
  const { host } = options;
  const sni = tls.sni || host?.name || '';
  const settled = (transport: Transport | undefined, reason: string): void =>
    done(transport ? { kind: 'connected', transport } : { kind: 'failed', reason });
  const key = `${addressText(options.target)}|${sni}|${alpn.join()}`;
  const session = context.sessions.take(key, options.clock.now());
  const addresses = { local: localOf(plain), remote: options.target };
  if (opened.kind === 'openssl') {
    const raw = new SocketTransport(plain, addresses);
    connectDirect(
      { raw, context, counters: tls.counters, sni, alpn, host, key, session, done: settled },
      opened.direct,
    );
    return;
  }
  const { generation } = context;
  const how: ConnectionOptions & { allowHalfOpen: boolean } = {
    socket: plain,
    secureContext: opened.secure,
    // The chain and the SANs are judged below, by Envoy's rules.
    rejectUnauthorized: false,
    checkServerIdentity: () => undefined,
    ...(sni === '' ? {} : { servername: sni }),
    ...(alpn.length > 0 ? { ALPNProtocols: [...alpn] } : {}),
    ...(session ? { session: session.bytes } : {}),
    allowHalfOpen: true,
  };
  const wrapped = connectTls(how);
  const failed = (error: NodeJS.ErrnoException): void => {
    tls.counters.connectionError.value += 1;
    done({ kind: 'failed', reason: failureOf(error).reason }, wrapped);
  };
  wrapped.once('error', failed);
  wrapped.once('close', () => done({ kind: 'failed', reason: 'connection closed during the TLS handshake' }, wrapped));
  wrapped.once('secureConnect', () => {
    const evidence = evidenceOf(wrapped, session?.peer);
    const { peer } = evidence;
    const judged = context.judge(evidence);
    const unnamed = judged === 'ok' && host?.verify && !coversHost(peer?.names ?? [], host.name);
    if (judged !== 'ok' || unnamed) {
      tls.counters.refused(judged === 'ok' ? 'fail-san' : judged);
      const reason =
        judged === 'ok' ? unnamedText(peer, host?.name ?? '') : verifyFailedText(judged, peer, evidence.chainText);
      return done({ kind: 'failed', reason }, wrapped);
    }
    wrapped.removeListener('error', failed);
    wrapped.removeAllListeners('close');
    const own = context.certificates()[0];
    const details = { ...detailsOf(wrapped, evidence, own, context.vouchedFor(evidence)), sni };
    tls.counters.established(details);
    if (context.sessions.enabled) {
      // What follows from a session ends with it: the peer's chain was seen only once.
      const until = evidence.resumed ? (session?.until ?? 0) : context.sessionEnd(peer, evidence.chain());
      const once = details.version === 'TLSv1.3';
      let kept = 0;
      const keep = (bytes: Buffer): void => {
        if (kept >= context.role.sessionKeys || context.generation !== generation) return;
        kept += 1;
        context.sessions.put(key, { bytes, peer, until, once });
      };
      // TLS 1.3 tickets come later; that of TLS 1.2 came before the handshake ended.
      if (once) wrapped.on('session', keep);
      else if (wrapped.getTLSTicket()) keep(wrapped.getSession()!);
    }
    const transport = new SocketTransport(wrapped, { ...addresses, tls: details });
    done({ kind: 'connected', transport }, wrapped);
  });
}

function localOf(socket: Socket): SocketAddr {
  if (socket.localAddress === undefined) return { kind: 'pipe', path: '' };
  return { kind: 'ip', ip: socket.localAddress.replace(/^::ffff:/, ''), port: socket.localPort ?? 0 };
}

function connectReason(error: NodeJS.ErrnoException): string {
  return `delayed connect error: ${systemReason(error)}`;
}
