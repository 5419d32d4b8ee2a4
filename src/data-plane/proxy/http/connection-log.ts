// Log lines about an HTTP connection that are of no request: of a listener's log when it is gone, and of a head that could not be
// read. Called by the connection manager.
import type { Transport, TransportFailure } from '../transport-socket/transport.ts';
import { type ConnectionInfo, FLAG, LOG_TYPE, StreamInfo } from './stream-info.ts';

/** What the connection manager knows of the end. */
export interface HttpConnectionEnd {
  readonly failure: TransportFailure | undefined;
  /** Empty before the first request. */
  readonly protocol: string;
  readonly protocolError: boolean;
  readonly now: number;
}

export function httpConnectionInfo(info: ConnectionInfo, transport: Transport, end: HttpConnectionEnd): StreamInfo {
  const { failure, protocol, now } = end;
  if (failure?.kind === 'reset') info.resetBy = 'RemoteReset';
  else if (!failure && !transport.peerEnded)
    info.localCloseReason ||= protocol === '' ? 'on_idle_timeout' : 'deferred_close_on_drained_connection';
  const line = new StreamInfo(info, info.acceptedAt ?? now);
  line.metadata = info.metadata;
  if (end.protocolError) line.flags = FLAG.DPE;
  line.protocol = protocol;
  line.bytesReceived = transport.bytesRead;
  line.bytesSent = transport.bytesWritten;
  line.duration = now - line.startTime;
  return line;
}

interface BadRequest {
  readonly error: string;
  readonly status: number;
  /** Of our answer's body. */
  readonly bytes: number;
  readonly flags: number;
  readonly now: number;
}

/** A request that never became a stream still has its line. */
export function badRequestInfo(
  connection: ConnectionInfo,
  { error, status, bytes, flags, now }: BadRequest,
): StreamInfo {
  const info = new StreamInfo(connection, now);
  info.responseCode = status;
  info.duration = 0;
  info.logType = LOG_TYPE.downstreamEnd;
  info.bytesSent = bytes;
  info.protocol = 'HTTP/1.1';
  info.responseDetails = error;
  info.flags = flags;
  return info;
}
