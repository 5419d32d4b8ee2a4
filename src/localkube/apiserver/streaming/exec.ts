// One exec or attach session, whatever carries its streams: runs it on the node and reports how it ended.
// Called by ws-exec.ts and spdy-exec.ts.
import type { Readable, Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import type { ExecResult, NodeBackend } from '../../node-backend.ts';
import { NodeError } from '../../node-backend.ts';
import type { ExecQuery } from './query.ts';

export interface Session {
  readonly mode: 'exec' | 'attach';
  readonly namespace: string;
  readonly pod: string;
  readonly query: ExecQuery;
}

/** What a protocol brings: the streams the client asked for, and how to report the end. */
export interface SessionStreams {
  readonly stdin?: Readable;
  readonly stdout?: Writable;
  readonly stderr?: Writable;
  readonly resize: ResizeFeed;
  readonly signal: AbortSignal;
  /** Called once, after all output is flushed. */
  finish(status: SessionStatus): void;
}

export interface SessionStatus {
  readonly metadata: Record<string, never>;
  readonly status: 'Success' | 'Failure';
  readonly message?: string;
  readonly reason?: string;
  readonly code?: number;
  readonly details?: { readonly causes: readonly { readonly reason: string; readonly message: string }[] };
}

interface Size {
  readonly width: number;
  readonly height: number;
}

/** Terminal sizes from the client; remembers the last one for a handler that comes later. */
export interface ResizeFeed {
  push(size: Size): void;
  subscribe(handler: (size: Size) => void): void;
  /** Resolves with the first size. */
  readonly first: Promise<void>;
}

export function createResizeFeed(): ResizeFeed {
  let last: Size | undefined;
  let handler: ((size: Size) => void) | undefined;
  const { promise, resolve } = Promise.withResolvers<void>();
  return {
    push(size) {
      last = size;
      resolve();
      handler?.(size);
    },
    subscribe(next) {
      handler = next;
      if (last) next(last);
    },
    first: promise,
  };
}

/** A terminal's first size comes right after the upgrade; wait this long for it. */
const FIRST_SIZE_MS = 250;
/** A client that does not read its output any more is dropped after this. */
const FLUSH_MS = 30_000;
const MAX_DIMENSION = 65_535;

/** `{"Width":80,"Height":24}`; undefined when it is not that. */
export function parseSize(text: string): Size | undefined {
  let value: { Width?: unknown; Height?: unknown };
  try {
    value = JSON.parse(text) as typeof value;
  } catch {
    return undefined;
  }
  const ok = (n: unknown): n is number => Number.isInteger(n) && (n as number) > 0 && (n as number) <= MAX_DIMENSION;
  return ok(value?.Width) && ok(value.Height) ? { width: value.Width, height: value.Height } : undefined;
}

/** Never rejects. */
export async function runSession(backend: NodeBackend, session: Session, streams: SessionStreams): Promise<void> {
  let status: SessionStatus;
  try {
    if (session.query.tty) await firstSize(streams.resize);
    status = toStatus(await start(backend, session, streams));
  } catch (error) {
    status = failure(error instanceof NodeError ? error.httpStatus : 500, (error as Error).message);
  }
  await Promise.all([flush(streams.stdout), flush(streams.stderr)]);
  streams.finish(status);
}

function start(backend: NodeBackend, session: Session, streams: SessionStreams): Promise<ExecResult> {
  const { query, namespace, pod } = session;
  const io = {
    stdin: streams.stdin,
    stdout: streams.stdout,
    stderr: streams.stderr,
    ...(query.tty && { onResize: (handler: (size: Size) => void) => streams.resize.subscribe(handler) }),
    signal: streams.signal,
  };
  const request = { namespace, pod, container: query.container, tty: query.tty };
  return session.mode === 'exec'
    ? backend.exec({ ...request, command: query.command }, io)
    : backend.attach(request, io);
}

async function firstSize(resize: ResizeFeed): Promise<void> {
  const timeout = Promise.withResolvers<void>();
  const timer = setTimeout(timeout.resolve, FIRST_SIZE_MS);
  await Promise.race([resize.first, timeout.promise]);
  clearTimeout(timer);
}

async function flush(stream: Writable | undefined): Promise<void> {
  if (!stream || stream.destroyed) return;
  if (!stream.writableEnded) stream.end();
  const timer = setTimeout(() => stream.destroy(), FLUSH_MS);
  // An error here means that the client has gone: there is nobody to tell.
  await finished(stream, { readable: false }).catch(() => {});
  clearTimeout(timer);
}

function toStatus(result: ExecResult): SessionStatus {
  if (result.kind === 'failed') return failure(result.httpStatus, result.message);
  if (result.code === 0) return { metadata: {}, status: 'Success' };
  return {
    metadata: {},
    status: 'Failure',
    message: `command terminated with non-zero exit code: exit status ${result.code}`,
    reason: 'NonZeroExitCode',
    details: { causes: [{ reason: 'ExitCode', message: String(result.code) }] },
  };
}

function failure(code: number, message: string): SessionStatus {
  return {
    metadata: {},
    status: 'Failure',
    message,
    reason: code === 404 ? 'NotFound' : code === 400 ? 'BadRequest' : 'InternalError',
    code,
  };
}
