// The aggregated discovery service on a gRPC server, both forms. Sets a stream up in the order of xds.md §4.1.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Metadata, type Server, type ServerDuplexStream, type ServiceDefinition, status } from '@grpc/grpc-js';
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
  type DiscoveryRequest,
  DiscoveryRequestSchema,
  type DiscoveryResponse,
  DiscoveryResponseSchema,
} from '#proto/envoy/service/discovery/v3/discovery_pb.js';
import type { Logger } from '../../base/runtime/log.ts';
import { errorText } from '../../base/runtime/log.ts';
import type { SpiffeId } from '../../base/spiffe/spiffe-id.ts';
import { TYPE_URL } from '../../base/xds/type-urls.ts';
import { peerCertificate } from '../ca/ca-service.ts';
import type { Authenticate } from '../ca/types.ts';
import { parseProxy } from '../model/proxy.ts';
import type { Discovery } from './discovery.ts';
import { refuseIdentity } from './identity.ts';
import { MAX_QUEUED_REQUESTS, type Outgoing, type Wire, type XdsRequest, type XdsStream } from './stream.ts';

const SERVICE = '/envoy.service.discovery.v3.AggregatedDiscoveryService';
export const SOTW_PATH = `${SERVICE}/StreamAggregatedResources`;
export const DELTA_PATH = `${SERVICE}/DeltaAggregatedResources`;

export interface AdsOptions {
  readonly discovery: Discovery;
  /** Absent on the plaintext port: nobody is asked who they are. */
  readonly authenticate?: Authenticate;
  /** Tells the proxies who serves them; the pod's name. */
  readonly identifier: string;
  readonly log: Logger;
}

const DEFINITION: ServiceDefinition = {
  StreamAggregatedResources: {
    path: SOTW_PATH,
    requestStream: true,
    responseStream: true,
    requestSerialize: (m: DiscoveryRequest) => Buffer.from(toBinary(DiscoveryRequestSchema, m)),
    requestDeserialize: (b: Buffer) => fromBinary(DiscoveryRequestSchema, b),
    responseSerialize: (m: DiscoveryResponse) => Buffer.from(toBinary(DiscoveryResponseSchema, m)),
    responseDeserialize: (b: Buffer) => fromBinary(DiscoveryResponseSchema, b),
  },
  DeltaAggregatedResources: {
    path: DELTA_PATH,
    requestStream: true,
    responseStream: true,
    requestSerialize: (m: DeltaDiscoveryRequest) => Buffer.from(toBinary(DeltaDiscoveryRequestSchema, m)),
    requestDeserialize: (b: Buffer) => fromBinary(DeltaDiscoveryRequestSchema, b),
    responseSerialize: (m: DeltaDiscoveryResponse) => Buffer.from(toBinary(DeltaDiscoveryResponseSchema, m)),
    responseDeserialize: (b: Buffer) => fromBinary(DeltaDiscoveryResponseSchema, b),
  },
};

export const ADS_DEFINITION: ServiceDefinition = DEFINITION;

export function addDiscoveryService(server: Server, options: AdsOptions): void {
  server.addService(DEFINITION, {
    StreamAggregatedResources: (call: ServerDuplexStream<DiscoveryRequest, DiscoveryResponse>) =>
      serve(call, options, 'sotw', readSotw, (m) => writeSotw(m, options.identifier)),
    DeltaAggregatedResources: (call: ServerDuplexStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>) =>
      serve(call, options, 'delta', readDelta, (m) => writeDelta(m, options.identifier)),
  });
}

type AnyRequest = DiscoveryRequest | DeltaDiscoveryRequest;

function serve<Req extends AnyRequest, Res>(
  call: ServerDuplexStream<Req, Res>,
  options: AdsOptions,
  form: 'sotw' | 'delta',
  read: (message: Req) => XdsRequest,
  write: (message: Outgoing) => Res,
): void {
  const { discovery, log } = options;
  let failed = false;
  const fail = (code: status, details: string): void => {
    if (failed) return;
    failed = true;
    call.emit('error', { code, details, metadata: new Metadata() });
  };
  if (!discovery.ready()) {
    const code = form === 'sotw' ? status.UNAVAILABLE : status.UNKNOWN;
    fail(code, 'server is not ready to serve discovery information');
    return;
  }
  const wire: Wire = {
    send: (message) => failed || call.write(write(message)),
    drained: () =>
      new Promise((resolve) => {
        const done = (): void => {
          for (const event of DRAIN_EVENTS) call.off(event, done);
          resolve();
        };
        for (const event of DRAIN_EVENTS) call.on(event, done);
      }),
    fail,
  };
  let connection: { readonly stream: XdsStream; readonly close: () => void } | undefined;
  let caller: readonly SpiffeId[] | undefined;
  let admitted = options.authenticate === undefined;
  let early: Req[] = [];

  /** Opens the stream on its first message; undefined when that was refused or is to be skipped. */
  const connect = (message: Req): XdsStream | undefined => {
    if (connection) return connection.stream;
    const refuse = (code: status, details: string): undefined => {
      fail(code, details);
      return undefined;
    };
    const nodeId = message.node?.id ?? '';
    if (nodeId === '')
      return message.typeUrl === TYPE_URL.health
        ? undefined
        : refuse(status.INVALID_ARGUMENT, 'missing node information');
    const parsed = parseProxy(nodeId, message.node?.metadata ?? {});
    if (parsed.kind === 'invalid') return refuse(status.INVALID_ARGUMENT, parsed.message);
    const why = caller ? refuseIdentity(caller, parsed.proxy) : undefined;
    if (why) {
      log.warn('ADS: refused', { node: parsed.proxy.id, why });
      return refuse(status.PERMISSION_DENIED, why);
    }
    connection = discovery.open(parsed.proxy, form, wire, caller);
    return connection.stream;
  };
  const receive = (message: Req): void => connect(message)?.receive(read(message));

  const end = (): void => {
    failed = true;
    connection?.close();
  };
  call.on('data', (message: Req) => {
    if (failed) return;
    if (admitted) receive(message);
    else if (early.length < MAX_QUEUED_REQUESTS) early.push(message);
    else fail(status.RESOURCE_EXHAUSTED, 'too many requests before authentication has ended');
  });
  call.on('end', () => {
    end();
    call.end();
  });
  call.on('error', end);
  call.on('cancelled', end);
  call.on('close', end);

  if (!options.authenticate) return;
  options.authenticate(call.metadata, { certificate: peerCertificate(call), address: call.getPeer() }).then(
    (result) => {
      if (failed) return;
      if (result.kind === 'refused') {
        log.warn('ADS: authentication failure', { peer: call.getPeer(), why: result.why.join('; ') });
        fail(status.UNAUTHENTICATED, 'authentication failure');
        return;
      }
      caller = result.caller.identities;
      admitted = true;
      const waiting = early;
      early = [];
      for (const message of waiting) if (!failed) receive(message);
    },
    (error: unknown) => {
      log.error('ADS: authentication could not be done', { error: errorText(error) });
      fail(status.UNAVAILABLE, 'authentication could not be done; try again');
    },
  );
}

const DRAIN_EVENTS = ['drain', 'error', 'cancelled', 'close'] as const;

function readSotw(message: DiscoveryRequest): XdsRequest {
  return {
    form: 'sotw',
    typeUrl: message.typeUrl,
    names: message.resourceNames,
    nonce: message.responseNonce,
    ...(message.errorDetail ? { error: message.errorDetail.message } : {}),
  };
}

function readDelta(message: DeltaDiscoveryRequest): XdsRequest {
  return {
    form: 'delta',
    typeUrl: message.typeUrl,
    subscribe: message.resourceNamesSubscribe,
    unsubscribe: message.resourceNamesUnsubscribe,
    initial: Object.keys(message.initialResourceVersions),
    initialVersions: message.initialResourceVersions,
    nonce: message.responseNonce,
    ...(message.errorDetail ? { error: message.errorDetail.message } : {}),
  };
}

function writeSotw(message: Outgoing, identifier: string): DiscoveryResponse {
  return create(DiscoveryResponseSchema, {
    versionInfo: message.version,
    typeUrl: message.typeUrl,
    nonce: message.nonce,
    resources: message.resources.map((r) => r.any),
    controlPlane: { identifier },
  });
}

function writeDelta(message: Outgoing, identifier: string): DeltaDiscoveryResponse {
  return create(DeltaDiscoveryResponseSchema, {
    systemVersionInfo: message.version,
    typeUrl: message.typeUrl,
    nonce: message.nonce,
    resources: message.resources.map((r) => ({ name: r.name, version: r.version, resource: r.any })),
    removedResources: [...message.removed],
    controlPlane: { identifier },
  });
}
