// One xDS stream of one proxy: its requests in order, its pushes, and what it already holds. The two forms of the protocol
// differ only in `Wire` (grpc.ts). Nothing is buffered beyond one round of responses: a slow reader gets the newest state late.
import { randomUUID } from 'node:crypto';
import { status } from '@grpc/grpc-js';
import type { EncodedResource } from '../../base/envoy-api/any.ts';
import type { Clock } from '../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import {
  type Answer,
  type DeltaRequest,
  onDeltaRequest,
  onSotwRequest,
  recordSent,
  type SotwRequest,
  TooManyNames,
  type Watch,
  type Watches,
} from '../../base/xds/subscription.ts';
import { isWildcardType, PUSH_ORDER, shortTypeName, TYPE_URL } from '../../base/xds/type-urls.ts';
import type { ProxyNode } from '../model/proxy.ts';
import type { Snapshot } from '../model/snapshot.ts';
import { generate } from '../translate/generate.ts';
import type { ServeMetrics } from './metrics.ts';

export interface Outgoing {
  readonly typeUrl: string;
  readonly version: string;
  readonly nonce: string;
  readonly resources: readonly EncodedResource[];
  /** Delta only. */
  readonly removed: readonly string[];
}

export type XdsRequest =
  | ({ readonly form: 'sotw' } & SotwRequest)
  | ({ readonly form: 'delta' } & DeltaRequest & {
        readonly initialVersions: Readonly<Record<string, string>>;
      });

/** The transport under a stream. */
export interface Wire {
  /** Returns false when the peer reads too slowly: wait for `drained` before the next. */
  send(message: Outgoing): boolean;
  drained(): Promise<void>;
  fail(code: status, message: string): void;
}

/** Requests that wait to be worked on; more end the stream. */
export const MAX_QUEUED_REQUESTS = 1000;

export type PushScope = 'full' | 'endpoints';

export interface StreamDeps {
  readonly snapshot: () => Snapshot;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: ServeMetrics;
  /** Answers `istio.io/debug` requests; rejects with a message for the caller. */
  readonly debug: (path: string) => Promise<string>;
  /** Limits how many streams are pushed to at once. */
  readonly gate: Gate;
  readonly adapt?: Adapt | undefined;
  /** The peer has proved that it is the proxy it says; others are told that there are no secrets. */
  readonly trusted: boolean;
}

/** Changes what a proxy gets on its way out; only the offline control plane does. */
export type Adapt = (
  resources: readonly EncodedResource[],
  proxy: ProxyNode,
  typeUrl: string,
) => readonly EncodedResource[];

export interface Gate {
  enter(): Promise<void>;
  leave(): void;
}

export interface XdsStream {
  readonly id: string;
  readonly proxy: ProxyNode;
  readonly form: 'sotw' | 'delta';
  readonly connectedAt: number;
  readonly watches: Watches;
  /** By type: name → version of what was sent last. */
  readonly held: ReadonlyMap<string, ReadonlyMap<string, string>>;
  receive(request: XdsRequest): void;
  push(scope: PushScope, since: number): void;
  close(): void;
}

export function createStream(
  identity: { readonly id: string; readonly proxy: ProxyNode; readonly form: 'sotw' | 'delta' },
  wire: Wire,
  deps: StreamDeps,
): XdsStream {
  const { clock, metrics, log } = deps;
  const { proxy } = identity;
  const watches: Watches = new Map();
  const held = new Map<string, Map<string, string>>();
  const requests: XdsRequest[] = [];
  let pending: { scope: PushScope; since: number; queued: number } | undefined;
  let open = true;
  let running = false;

  const transmit = async (watch: Watch, resources: readonly EncodedResource[], removed: readonly string[]) => {
    const { version } = deps.snapshot();
    const nonce = version + randomUUID();
    const type = shortTypeName(watch.typeUrl);
    const started = clock.now();
    recordSent(watch, nonce, started);
    const flowing = wire.send({ typeUrl: watch.typeUrl, version, nonce, resources, removed });
    metrics.pushes.inc({ type });
    metrics.configSize.observe(
      resources.reduce((sum, r) => sum + r.any.value.length, 0),
      { type },
    );
    if (!flowing && open) await wire.drained();
    metrics.sendTime.observe((clock.now() - started) / 1000);
  };

  const holdings = (typeUrl: string): Map<string, string> => {
    const known = held.get(typeUrl) ?? new Map<string, string>();
    held.set(typeUrl, known);
    return known;
  };

  /** Sends what differs from what the proxy holds; `forced` names go out even when equal. Returns the names that changed. */
  const sendType = async (watch: Watch, options: SendOptions): Promise<readonly string[]> => {
    const { typeUrl } = watch;
    const known = holdings(typeUrl);
    const wildcard = isWildcardType(typeUrl) && (watch.wildcard || identity.form === 'sotw');
    const hidden = typeUrl === TYPE_URL.secret && !deps.trusted;
    const generated = hidden ? [] : generate(deps.snapshot(), proxy, typeUrl, options.names ?? watch.names);
    const resources = (deps.adapt?.(generated, proxy, typeUrl) ?? generated).filter(
      (r) => wildcard || isWildcardType(typeUrl) === false || watch.names.has(r.name),
    );
    const made = new Map(resources.map((r) => [r.name, r.version]));
    const changed = resources.filter((r) => known.get(r.name) !== r.version);
    const gone = wildcard
      ? [...known.keys()].filter((name) => !made.has(name))
      : [...(options.names ?? watch.names)].filter((n) => !made.has(n) && (options.answer || known.has(n)));
    for (const name of gone) known.delete(name);
    for (const [name, version] of made) known.set(name, version);
    if (!wildcard && !options.names) for (const name of known.keys()) if (!watch.names.has(name)) known.delete(name);
    const forced = options.forced ?? new Set<string>();
    const touched = changed.map((r) => r.name);
    if (!options.answer && changed.length === 0 && gone.length === 0 && !resources.some((r) => forced.has(r.name)))
      return [];
    if (identity.form === 'sotw') {
      // A complete list for clusters and listeners; for the others silence means "unchanged".
      const complete = wildcard || options.answer;
      const out = complete ? resources : resources.filter((r) => touched.includes(r.name) || forced.has(r.name));
      if (complete || out.length > 0) await transmit(watch, out, []);
    } else {
      const out = options.everything
        ? resources
        : resources.filter((r) => touched.includes(r.name) || forced.has(r.name));
      await transmit(watch, out, gone);
    }
    return touched;
  };

  const answer = async (request: XdsRequest, result: Answer): Promise<void> => {
    if (result.kind === 'none') {
      const type = shortTypeName(request.typeUrl);
      if (result.why === 'stale') metrics.expiredNonce.inc({ type });
      if (result.why === 'nack') {
        metrics.rejects.inc({ type });
        log.warn('configuration rejected by the proxy', { proxy: identity.id, type, error: request.error });
      }
      return;
    }
    const watch = watches.get(request.typeUrl);
    if (!watch) return;
    if (request.form === 'delta' && result.first)
      for (const [name, version] of Object.entries(request.initialVersions))
        holdings(request.typeUrl).set(name, version);
    // Named again means: send again, even when nothing changed.
    const asked = request.form === 'delta' ? request.subscribe : [];
    await sendType(watch, { answer: true, names: result.names, forced: new Set(asked) });
    if (request.typeUrl !== TYPE_URL.cluster) return;
    const endpoints = watches.get(TYPE_URL.endpoint);
    if (!endpoints) return;
    if (identity.form === 'sotw') endpoints.alwaysRespond = true;
    else await sendType(endpoints, { answer: true, everything: true });
  };

  const handle = async (request: XdsRequest): Promise<void> => {
    if (request.typeUrl === TYPE_URL.health) return;
    if (request.typeUrl.startsWith(TYPE_URL.debug)) return answerDebug(request);
    const result = request.form === 'sotw' ? onSotwRequest(watches, request) : onDeltaRequest(watches, request);
    await answer(request, result);
  };

  const answerDebug = async (request: XdsRequest): Promise<void> => {
    const names = request.form === 'sotw' ? request.names : request.subscribe;
    const path = names[0] ?? request.typeUrl.slice(TYPE_URL.debug.length + 1);
    if (names.length > 1 || path === '') {
      wire.fail(status.INVALID_ARGUMENT, 'exactly one debug request is required');
      return;
    }
    const body = await deps.debug(path);
    const any = { $typeName: 'google.protobuf.Any' as const, typeUrl: TYPE_URL.debug, value: Buffer.from(body) };
    const resource: EncodedResource = { name: path, any, version: '' };
    const { version } = deps.snapshot();
    const message = { typeUrl: request.typeUrl, version, nonce: version + randomUUID(), removed: [] };
    if (!wire.send({ ...message, resources: [resource] })) await wire.drained();
  };

  const pushAll = async (scope: PushScope): Promise<void> => {
    const order = scope === 'endpoints' ? [TYPE_URL.endpoint] : [...PUSH_ORDER, ...watches.keys()];
    let changedClusters: readonly string[] = [];
    for (const typeUrl of new Set(order)) {
      const watch = watches.get(typeUrl);
      if (!watch || !open) continue;
      const started = clock.now();
      // A cluster that was updated warms until endpoints arrive again, changed or not.
      const forced = typeUrl === TYPE_URL.endpoint ? new Set(changedClusters) : undefined;
      const touched = await sendType(watch, { answer: false, forced });
      if (typeUrl === TYPE_URL.cluster) changedClusters = touched;
      metrics.pushTime.observe((clock.now() - started) / 1000, { type: shortTypeName(typeUrl) });
    }
  };

  const run = async (): Promise<void> => {
    while (open) {
      const request = requests.shift();
      if (request) {
        await handle(request);
        continue;
      }
      const push = pending;
      if (!push) return;
      await deps.gate.enter();
      try {
        pending = undefined;
        metrics.queueTime.observe((clock.now() - push.queued) / 1000);
        await pushAll(push.scope);
        metrics.convergence.observe((clock.now() - push.since) / 1000);
      } finally {
        deps.gate.leave();
      }
    }
  };

  const wake = (): void => {
    if (running || !open) return;
    running = true;
    run()
      .catch((error: unknown) => {
        metrics.internalErrors.inc();
        log.error('stream ended by an error', { proxy: identity.id, error: errorText(error) });
        wire.fail(error instanceof TooManyNames ? status.RESOURCE_EXHAUSTED : status.INTERNAL, errorText(error));
        open = false;
      })
      .finally(() => {
        running = false;
        if (requests.length > 0 || pending) wake();
      });
  };

  return {
    ...identity,
    connectedAt: clock.now(),
    watches,
    held,
    receive(request) {
      if (requests.length >= MAX_QUEUED_REQUESTS) {
        wire.fail(status.RESOURCE_EXHAUSTED, `more than ${MAX_QUEUED_REQUESTS} requests are waiting`);
        open = false;
        return;
      }
      requests.push(request);
      wake();
    },
    push(scope, since) {
      const wider: PushScope = pending?.scope === 'full' || scope === 'full' ? 'full' : 'endpoints';
      pending = { scope: wider, since: pending?.since ?? since, queued: pending?.queued ?? clock.now() };
      wake();
    },
    close() {
      open = false;
      requests.length = 0;
      pending = undefined;
    },
  };
}

interface SendOptions {
  /** A request waits: something is sent even when nothing changed. */
  readonly answer: boolean;
  /** Only these; absent: all that is watched. */
  readonly names?: readonly string[];
  readonly forced?: ReadonlySet<string>;
  /** Delta: also what did not change. */
  readonly everything?: boolean;
}

export function createGate(limit: number): Gate {
  let inside = 0;
  const waiting: (() => void)[] = [];
  return {
    enter() {
      if (inside < limit) {
        inside += 1;
        return Promise.resolve();
      }
      return new Promise((resolve) => waiting.push(resolve));
    },
    leave() {
      const next = waiting.shift();
      if (next) next();
      else inside -= 1;
    },
  };
}
