// TCP health check: a connection is enough, or bytes that must be answered with bytes. Made by checker.ts.

import { MAX_HEALTH_RESPONSE_BYTES } from '../../limits.ts';
import type { Transport, TransportSink } from '../../transport-socket/transport.ts';
import { HEALTHY, type Probe, type ProbeResult, UNREACHABLE } from './probe.ts';
import { holds, type TcpCheck } from './settings.ts';

/** Opens a connection; undefined = it failed. */
export type Connect = (done: (transport: Transport | undefined) => void) => () => void;

export class TcpProbe implements Probe {
  readonly #check: TcpCheck;
  readonly #connect: Connect;
  readonly #reuse: boolean;
  #transport: Transport | undefined;
  #done: ((result: ProbeResult) => void) | undefined;
  #received: Buffer = Buffer.alloc(0);

  constructor(check: TcpCheck, connect: Connect, reuse: boolean) {
    this.#check = check;
    this.#connect = connect;
    this.#reuse = reuse;
  }

  start(done: (result: ProbeResult) => void): () => void {
    this.#done = done;
    this.#received = Buffer.alloc(0);
    const giveUp = (): void => {
      this.#done = undefined;
      this.#drop();
    };
    if (this.#transport) {
      this.#ask(this.#transport);
      return giveUp;
    }
    const cancel = this.#connect((transport) => {
      if (!transport) return this.#finish(UNREACHABLE);
      this.#transport = transport;
      transport.start(this.#sink);
      this.#ask(transport);
    });
    return () => {
      cancel();
      giveUp();
    };
  }

  stop(): void {
    this.#done = undefined;
    this.#drop();
  }

  #ask(transport: Transport): void {
    const { send, receive } = this.#check;
    if (send) transport.write(send, 0, send.length);
    if (receive.length === 0) this.#finish(HEALTHY);
  }

  readonly #sink: TransportSink = {
    onData: (bytes, start, end) => {
      if (!this.#done) return;
      if (this.#received.length + end - start > MAX_HEALTH_RESPONSE_BYTES) return this.#finish(UNREACHABLE);
      this.#received = Buffer.concat([this.#received, bytes.subarray(start, end)]);
      if (holds(this.#received, this.#check.receive)) this.#finish(HEALTHY);
    },
    onEnd: () => this.#lost(),
    onBacklog: () => {},
    onClose: () => this.#lost(),
  };

  #lost(): void {
    this.#drop();
    this.#finish(UNREACHABLE);
  }

  #finish(result: ProbeResult): void {
    const done = this.#done;
    this.#done = undefined;
    // A connection that told nothing good is not asked again.
    if (!this.#reuse || result !== HEALTHY || (this.#check.receive.length === 0 && !this.#check.send)) this.#drop();
    done?.(result);
  }

  #drop(): void {
    const transport = this.#transport;
    this.#transport = undefined;
    transport?.destroy();
  }
}
