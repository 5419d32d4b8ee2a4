// Envoy's words for an upstream's end without an answer. Used by router-exchange.ts.
import { FLAG } from '../http/stream-info.ts';
import type { UpstreamReset } from '../upstream/exchange.ts';

export const RESETS: Readonly<
  Record<UpstreamReset, { readonly text: string; readonly flag: number; readonly details: string }>
> = {
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
