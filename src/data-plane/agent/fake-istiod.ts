// The two services of istiod an agent talks to, with answers that tests steer. Used by agent.test.ts.
// The real CA is tested in its own folder, which the data plane does not import.
import assert from 'node:assert/strict';
import { createPublicKey, randomBytes } from 'node:crypto';
import type { TestContext } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import {
  type handleBidiStreamingCall,
  type handleUnaryCall,
  type Metadata,
  Server,
  ServerCredentials,
  status,
} from '@grpc/grpc-js';
import { IstioCertificateResponseSchema } from '#proto/istio/ca_pb.js';
import type { FakeClock } from '../../../test/fakes/fake-clock.ts';
import { certificatePem, type Issuer, issueLeaf, issueRoot } from '../../base/x509/certificate.ts';
import { readCsr } from '../../base/x509/csr.ts';
import { altName } from '../../base/x509/extensions.ts';
import { generateKey, writePrivateKey } from '../../base/x509/keys.ts';
import { decodeDiscoveryRequest, encodeDiscoveryResponse } from './wire.ts';

export const ADS = '/envoy.service.discovery.v3.AggregatedDiscoveryService';
export const HOUR = 3_600_000;
export const LIMITS = { 'grpc.max_receive_message_length': 1e8, 'grpc.max_send_message_length': 1e8 };
export const IDENTITY = 'spiffe://cluster.local/ns/foo/sa/bar';
export const same = (bytes: Buffer) => bytes;
const stream = { requestStream: true, responseStream: true };
const bytesCoding = {
  requestSerialize: same,
  requestDeserialize: same,
  responseSerialize: same,
  responseDeserialize: same,
};

export async function newRoot(now: number): Promise<Issuer> {
  const key = await generateKey('p256');
  const make = { key, organization: 'cluster.local', now, ttlMs: 1000 * HOUR, random: randomBytes };
  return { certificate: await issueRoot(make), key };
}

export interface Istiod {
  readonly port: number;
  readonly csrs: { readonly token: string; readonly clusterId: string }[];
  /** Metadata of each ADS stream. */
  readonly streams: Metadata[];
  signer: Issuer;
  roots: string;
  /** Answers with this instead of a certificate. */
  refuse: { readonly code: status; readonly details: string } | undefined;
  /** Calls so refused before it signs again; -1: for ever. */
  refusals: number;
}

/** The two services an agent talks to. The real CA is tested with its own folder; here its answers are steered. */
export async function startIstiod(t: TestContext, clock: FakeClock): Promise<Istiod> {
  const signer = await newRoot(clock.now());
  const istiod: Istiod = {
    port: 0,
    csrs: [],
    streams: [],
    signer,
    roots: certificatePem(signer.certificate),
    refuse: undefined,
    refusals: -1,
  };
  const server = new Server(LIMITS);
  server.addService(
    {
      Sign: {
        path: '/istio.v1.auth.IstioCertificateService/CreateCertificate',
        requestStream: false,
        responseStream: false,
        ...bytesCoding,
      },
    },
    {
      Sign: ((call, reply) => {
        const text = (key: string) => String(call.metadata.get(key)[0] ?? '');
        istiod.csrs.push({ token: text('authorization'), clusterId: text('clusterid') });
        if (istiod.refuse && istiod.refusals !== 0) {
          istiod.refusals -= 1;
          reply(istiod.refuse);
          return;
        }
        sign(istiod, call.request, clock).then((value) => reply(null, value), reply);
      }) satisfies handleUnaryCall<Buffer, Buffer>,
    },
  );
  server.addService(
    {
      Ads: { path: `${ADS}/DeltaAggregatedResources`, ...stream, ...bytesCoding },
      Sotw: { path: `${ADS}/StreamAggregatedResources`, ...stream, ...bytesCoding },
    },
    {
      Ads: ((call) => {
        istiod.streams.push(call.metadata);
        call.on('data', (message: Buffer) => {
          if (message.toString() === 'fail')
            call.emit('error', { code: status.PERMISSION_DENIED, details: 'authorization failed: no' });
          else call.write(Buffer.concat([Buffer.from('echo:'), message]));
        });
        call.on('end', () => call.end());
      }) satisfies handleBidiStreamingCall<Buffer, Buffer>,
      Sotw: ((call) => {
        call.on('data', (message: Buffer) => {
          const request = decodeDiscoveryRequest(message);
          const resources = [Buffer.from(JSON.stringify({ asked: request.resourceNames }))];
          call.write(encodeDiscoveryResponse({ versionInfo: '1', typeUrl: request.typeUrl, nonce: 'n', resources }));
        });
      }) satisfies handleBidiStreamingCall<Buffer, Buffer>,
    },
  );
  const key = await generateKey('p256');
  const serving = await issueLeaf(signer, {
    publicKey: createPublicKey(key),
    names: [altName('istiod.istio-system.svc')],
    now: clock.now(),
    ttlMs: 900 * HOUR,
    random: randomBytes,
  });
  const pair = {
    private_key: Buffer.from(writePrivateKey(key, 'pkcs8')),
    cert_chain: Buffer.from(certificatePem(serving)),
  };
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createSsl(null, [pair]), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  t.after(() => server.forceShutdown());
  return Object.assign(istiod, { port });
}

async function sign(istiod: Istiod, request: Buffer, clock: FakeClock): Promise<Buffer> {
  const [, csr = ''] =
    /(-----BEGIN CERTIFICATE REQUEST-----[\s\S]*-----END CERTIFICATE REQUEST-----)/.exec(request.toString()) ?? [];
  const read = readCsr(csr);
  assert.deepEqual(read.altNames, [{ kind: 'uri', value: IDENTITY }]);
  const leaf = await issueLeaf(istiod.signer, {
    publicKey: read.publicKey,
    names: [altName(IDENTITY)],
    now: clock.now(),
    ttlMs: 24 * HOUR,
    random: randomBytes,
  });
  return Buffer.from(
    toBinary(
      IstioCertificateResponseSchema,
      create(IstioCertificateResponseSchema, { certChain: [certificatePem(leaf), istiod.roots] }),
    ),
  );
}
