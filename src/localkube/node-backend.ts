// What the API server asks of the node for exec, attach, logs and port-forward. Implemented by the kubelet,
// called by the API server's streaming handlers.
import type { Duplex, Readable, Writable } from 'node:stream';

export interface ExecRequest {
  readonly namespace: string;
  readonly pod: string;
  /** Absent: the pod's default container. */
  readonly container?: string;
  readonly command: readonly string[];
  readonly tty: boolean;
}

export interface ExecIo {
  readonly stdin?: Readable;
  readonly stdout?: Writable;
  /** Absent with a tty: everything goes to stdout. */
  readonly stderr?: Writable;
  /** Terminal size changes; the first one, if any, comes before the command starts. */
  onResize?(handler: (size: { readonly width: number; readonly height: number }) => void): void;
  /** The client is gone: kill what runs. */
  readonly signal: AbortSignal;
}

export type ExecResult =
  | { readonly kind: 'exited'; readonly code: number }
  /** The command could not be started: no such container, no such file. `httpStatus` is for a refusal before streaming. */
  | { readonly kind: 'failed'; readonly httpStatus: number; readonly message: string };

export interface LogRequest {
  readonly namespace: string;
  readonly pod: string;
  readonly container?: string;
  readonly follow: boolean;
  readonly previous: boolean;
  readonly timestamps: boolean;
  readonly tailLines?: number;
  readonly sinceSeconds?: number;
  readonly sinceTime?: string;
  readonly limitBytes?: number;
}

/** Rejections are {@link NodeError}. */
export interface NodeBackend {
  exec(request: ExecRequest, io: ExecIo): Promise<ExecResult>;
  /** Attach to the main process: its log from now on, and its stdin when it has one. */
  attach(request: Omit<ExecRequest, 'command'>, io: ExecIo): Promise<ExecResult>;
  logs(request: LogRequest, write: (chunk: Buffer) => void, signal: AbortSignal): Promise<void>;
  /** A connection to 127.0.0.1:`port` inside the pod. */
  portForward(request: { readonly namespace: string; readonly pod: string; readonly port: number }): Promise<Duplex>;
}

export class NodeError extends Error {
  readonly httpStatus: number;
  constructor(httpStatus: number, message: string) {
    super(message);
    this.name = 'NodeError';
    this.httpStatus = httpStatus;
  }
}
