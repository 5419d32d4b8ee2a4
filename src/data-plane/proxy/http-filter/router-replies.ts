// Envoy's words for requests that got no answer from upstream. Used by router-exchange.ts.
import { type HeaderMap, headerName } from '../http/header-map.ts';
import type { LocalReply } from '../http/local-reply.ts';
import { H } from '../http/names.ts';
import { FLAG } from '../http/stream-info.ts';
import type { UpstreamReset } from '../upstream/exchange.ts';

const DROP_SOME = headerName('x-envoy-drop-overload');
const DROP_ALL = headerName('x-envoy-unconditional-drop-overload');

/** Why a try ended: words of the answer, flag, and words of the details. */
export interface Failure {
  readonly text: string;
  readonly flag: number;
  readonly details: string;
}

export const RESETS: Readonly<Record<UpstreamReset, Failure>> = {
  'connection-termination': { text: 'connection termination', flag: FLAG.UC, details: 'connection_termination' },
  'remote-reset': { text: 'remote reset', flag: FLAG.UR, details: 'remote_reset' },
  'remote-refused-stream-reset': {
    text: 'remote refused stream reset',
    flag: FLAG.UR,
    details: 'remote_refused_stream_reset',
  },
  'protocol-error': { text: 'protocol error', flag: FLAG.UPE, details: 'protocol_error' },
  overflow: { text: 'overflow', flag: FLAG.UO, details: 'overflow' },
};

export const CONNECT_TIMEOUT: Failure = { text: 'connection timeout', flag: FLAG.UF, details: 'connection_timeout' };

/** Envoy keeps from callers why a connection failed, unless its runtime says otherwise, as in a mesh. */
export const HIDE_REASON = 'envoy.reloadable_features.hide_transport_failure_reason_in_response_body';

export function connectFailure(reason: string, told: boolean): Failure {
  const text = told ? `remote connection failure, transport failure reason: ${reason}` : 'remote connection failure';
  return { text, flag: FLAG.UF, details: `remote_connection_failure|${reason}` };
}

export function failedReply(failure: Failure, retried: boolean, edit: (headers: HeaderMap) => void): LocalReply {
  const verb = retried ? 'retried and the latest reset reason' : 'reset reason';
  return {
    status: failure.details === 'protocol_error' ? 502 : 503,
    body: `upstream connect error or disconnect/reset before headers. ${verb}: ${failure.text}`,
    flags: failure.flag,
    details: `upstream_reset_before_response_started{${failure.details}}`,
    edit: (headers) => {
      edit(headers);
    },
  };
}

/** Nobody to ask, or no pool to ask through. */
export const NO_HOST: LocalReply = {
  status: 503,
  body: 'no healthy upstream',
  flags: FLAG.UH,
  details: 'no_healthy_upstream',
};

/** What the configuration made of a request's head cannot be sent. */
export const HEAD_TOO_LARGE: LocalReply = { status: 431, body: '', flags: 0, details: 'request_headers_too_large' };

/** The runtime keeps requests away from the cluster. */
export function maintenanceReply(silent: boolean): LocalReply {
  return {
    status: 503,
    body: 'maintenance mode',
    flags: FLAG.UO,
    details: 'maintenance_mode',
    edit: (headers) => overloaded(headers, silent),
  };
}

/** The control plane says to drop this share of requests. */
export function droppedReply(all: boolean, silent: boolean): LocalReply {
  return {
    status: 503,
    body: all ? 'unconditional drop overload' : 'drop overload',
    flags: all ? FLAG.UDO : FLAG.DO,
    details: all ? 'unconditional_drop_overload' : 'drop_overload',
    edit: (headers) => {
      if (!silent) headers.set(all ? DROP_ALL : DROP_SOME, 'true');
    },
  };
}

export function timeoutReply(status: number, details: string, edit: (headers: HeaderMap) => void): LocalReply {
  return { status, body: status === 204 ? '' : 'upstream request timeout', flags: FLAG.UT, details, edit };
}

export function durationReply(complete: boolean): LocalReply {
  return {
    status: complete ? 504 : 408,
    body: 'upstream max stream duration reached',
    flags: FLAG.UMSDR,
    details: 'upstream_max_stream_duration_reached',
  };
}

export function overloaded(headers: HeaderMap, silent: boolean): void {
  if (!silent) headers.set(H.overloaded, 'true');
}
