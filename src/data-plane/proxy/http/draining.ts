// The polite end of a downstream connection: lets the last answer leave, throws away what still comes so that the kernel
// does not turn it into an RST, and cuts off a client that does not go. Used by both server codecs.
import type { Clock } from '../../../base/runtime/clock.ts';
import type { Transport, TransportFailure, TransportSink } from '../transport-socket/transport.ts';
import type { ServerCallbacks } from './codec.ts';

/** `delayMs` 0: closes as soon as everything was sent. */
export function drainAndClose(
  transport: Transport,
  clock: Clock,
  delayMs: number,
  callbacks: Pick<ServerCallbacks, 'onCloseDelayed' | 'onEnding' | 'onConnectionClosed'>,
): void {
  callbacks.onEnding?.();
  const closed = (failure: TransportFailure | undefined): void => callbacks.onConnectionClosed(failure);
  if (delayMs <= 0) {
    transport.redirect(new Draining(transport, closed));
    transport.closeSoon();
    return;
  }
  transport.end();
  transport.redirect(new Draining(transport, closed));
  transport.resume();
  clock.after(delayMs, () => {
    if (transport.closed) return;
    callbacks.onCloseDelayed?.();
    transport.destroy();
  });
}

class Draining implements TransportSink {
  readonly #transport: Transport;
  readonly #closed: (failure: TransportFailure | undefined) => void;
  constructor(transport: Transport, closed: (failure: TransportFailure | undefined) => void) {
    this.#transport = transport;
    this.#closed = closed;
  }
  onData(): void {}
  onEnd(): void {
    this.#transport.destroy();
  }
  onBacklog(): void {}
  onClose(failure: TransportFailure | undefined): void {
    this.#closed(failure);
  }
}
