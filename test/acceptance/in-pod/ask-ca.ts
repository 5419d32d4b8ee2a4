// Run inside a sidecar by the acceptance tests: asks istiod's CA for a certificate the way an attacker or a broken agent
// would. Prints the SPIFFE IDs of what came back, or the gRPC code and message on standard error with exit 1.
// Usage: ask-ca.ts [--token TEXT | --token-file FILE] [--csr good|garbage|weak] [--san SPIFFE_ID]
import { spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { credentials, Metadata, makeGenericClientConstructor, status } from '@grpc/grpc-js';
import {
  IstioCertificateRequestSchema,
  type IstioCertificateResponse,
  IstioCertificateResponseSchema,
} from '#proto/istio/ca_pb.js';

const { values } = parseArgs({
  options: {
    token: { type: 'string' },
    'token-file': { type: 'string', default: '/var/run/secrets/tokens/istio-token' },
    csr: { type: 'string', default: 'good' },
    san: { type: 'string', default: 'spiffe://cluster.local/ns/x/sa/y' },
  },
});

function makeCsr(kind: string): string {
  if (kind === 'garbage')
    return '-----BEGIN CERTIFICATE REQUEST-----\nZ2FyYmFnZQ==\n-----END CERTIFICATE REQUEST-----\n';
  const key = kind === 'weak' ? 'rsa:1024' : 'rsa:2048';
  const made = spawnSync(
    'openssl',
    [
      'req',
      '-new',
      '-newkey',
      key,
      '-nodes',
      '-keyout',
      '/dev/null',
      '-subj',
      '/O=x',
      '-addext',
      `subjectAltName=URI:${values.san}`,
    ],
    { encoding: 'utf8' },
  );
  if (made.status !== 0) throw new Error(made.stderr);
  return made.stdout;
}

const path = '/istio.v1.auth.IstioCertificateService/CreateCertificate';
const Client = makeGenericClientConstructor(
  {
    create: {
      path,
      requestStream: false,
      responseStream: false,
      requestSerialize: (csr: string) =>
        Buffer.from(
          toBinary(
            IstioCertificateRequestSchema,
            create(IstioCertificateRequestSchema, { csr, validityDuration: 3600n }),
          ),
        ),
      requestDeserialize: () => '',
      responseSerialize: () => Buffer.alloc(0),
      responseDeserialize: (bytes: Buffer) => fromBinary(IstioCertificateResponseSchema, bytes),
    },
  },
  'IstioCertificateService',
);
const root = readFileSync('/var/run/secrets/istio/root-cert.pem');
const client = new Client('istiod.istio-system.svc:15012', credentials.createSsl(root));
const metadata = new Metadata();
const token = values.token ?? readFileSync(values['token-file'], 'utf8').trim();
if (token !== '') metadata.set('authorization', `Bearer ${token}`);
metadata.set('clusterid', 'Kubernetes');
type Call = (
  csr: string,
  metadata: Metadata,
  done: (error: { code: number; details: string } | null, answer?: IstioCertificateResponse) => void,
) => void;
(client.create as Call).call(client, makeCsr(values.csr), metadata, (error, answer) => {
  if (error) {
    console.error(`${status[error.code]}: ${error.details}`);
    process.exitCode = 1;
  } else console.log(new X509Certificate(answer!.certChain[0]!).subjectAltName);
  client.close();
});
