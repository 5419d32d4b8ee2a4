// IstioCertificateService on a gRPC server: authenticate, sign, answer with Istio's codes and texts (identity.md §7).
// Called by the control plane's wiring for the TLS port.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  type handleUnaryCall,
  type Metadata,
  type Server,
  type ServerUnaryCall,
  type ServiceDefinition,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import {
  type IstioCertificateRequest,
  IstioCertificateRequestSchema,
  type IstioCertificateResponse,
  IstioCertificateResponseSchema,
} from '#proto/istio/ca_pb.js';
import type { Clock } from '../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import type { Counter, MetricsRegistry } from '../../base/runtime/metrics.ts';
import { type Authenticate, type CertificateAuthority, SigningError } from './types.ts';

export const CA_SERVICE_PATH = '/istio.v1.auth.IstioCertificateService/CreateCertificate';
/** Requests being worked on; further ones are told to come again. */
export const MAX_REQUESTS_IN_FLIGHT = 1024;

export interface CaServiceOptions {
  readonly authority: CertificateAuthority;
  readonly authenticate: Authenticate;
  readonly log: Logger;
  readonly metrics: MetricsRegistry;
  readonly clock: Clock;
}

const DEFINITION: ServiceDefinition = {
  CreateCertificate: {
    path: CA_SERVICE_PATH,
    requestStream: false,
    responseStream: false,
    requestSerialize: (value: IstioCertificateRequest) => Buffer.from(toBinary(IstioCertificateRequestSchema, value)),
    requestDeserialize: (bytes: Buffer) => fromBinary(IstioCertificateRequestSchema, bytes),
    responseSerialize: (value: IstioCertificateResponse) =>
      Buffer.from(toBinary(IstioCertificateResponseSchema, value)),
    responseDeserialize: (bytes: Buffer) => fromBinary(IstioCertificateResponseSchema, bytes),
  },
};

/** An answer that is not a certificate. */
class Refusal extends Error {
  readonly code: status;
  constructor(code: status, message: string) {
    super(message);
    this.code = code;
  }
}

type Call = ServerUnaryCall<IstioCertificateRequest, IstioCertificateResponse>;

export function addCaService(server: Server, options: CaServiceOptions): void {
  const counters = registerCounters(options.metrics);
  let inFlight = 0;
  const handler: handleUnaryCall<IstioCertificateRequest, IstioCertificateResponse> = (call, reply) => {
    if (inFlight >= MAX_REQUESTS_IN_FLIGHT) {
      reply({ code: status.RESOURCE_EXHAUSTED, details: 'too many certificate requests at once; try again' });
      return;
    }
    inFlight += 1;
    createCertificate(call, options, counters)
      .then(
        (certChain) => reply(null, create(IstioCertificateResponseSchema, { certChain: [...certChain] })),
        (error) => replyError(error, reply, options.log),
      )
      .finally(() => {
        inFlight -= 1;
      });
  };
  server.addService(DEFINITION, { CreateCertificate: handler });
}

async function createCertificate(
  call: Call,
  options: CaServiceOptions,
  counters: Counters,
): Promise<readonly string[]> {
  counters.requests.inc();
  const address = call.getPeer();
  const caller = await authenticate(call, address, options, counters);
  refuseMetadata(call.request.metadata, options.log, address);
  try {
    const chain = await options.authority.signWorkload(
      call.request.csr,
      caller.identities,
      Number(call.request.validityDuration),
    );
    counters.issued.inc();
    options.log.info('issued a certificate', { identity: caller.identities.join(','), source: caller.source, address });
    return chain;
  } catch (error) {
    const code = error instanceof SigningError ? error.code : 'internal';
    if (code === 'csr') counters.parseErrors.inc();
    counters.signErrors.inc({ error: METRIC_ERROR[code] });
    options.log.warn('CSR signing failed', { identity: caller.identities.join(','), address, error: errorText(error) });
    const grpcCode = code === 'csr' || code === 'ttl' ? status.INVALID_ARGUMENT : status.INTERNAL;
    // Text of errors we did not make stays in the log.
    throw new Refusal(
      grpcCode,
      `CSR signing error (${error instanceof SigningError ? error.message : 'internal error'})`,
    );
  }
}

async function authenticate(call: Call, address: string, options: CaServiceOptions, counters: Counters) {
  const certificate = peerCertificate(call);
  const result = await options.authenticate(call.metadata, { certificate, address });
  if (result.kind === 'refused') {
    counters.authenticationFailures.inc();
    options.log.warn('request authenticate failure', { address, why: result.why.join('; ') });
    throw new Refusal(status.UNAUTHENTICATED, 'request authenticate failure');
  }
  if (result.caller.identities.length === 0) {
    counters.identityErrors.inc();
    throw new Refusal(status.UNAUTHENTICATED, 'request authenticate failure');
  }
  return result.caller;
}

/** The certificate of the TLS session of any call, as authenticators take it. */
export function peerCertificate(call: {
  getAuthContext(): { readonly sslPeerCertificate?: { readonly raw?: Buffer } } | null;
  readonly metadata: Metadata;
}): { readonly raw: Buffer } | undefined {
  const raw = call.getAuthContext()?.sslPeerCertificate?.raw;
  return raw ? { raw } : undefined;
}

function refuseMetadata(metadata: IstioCertificateRequest['metadata'], log: Logger, address: string): void {
  const signer = metadata?.CertSigner;
  if (signer !== undefined && signer !== '')
    throw new Refusal(
      status.INVALID_ARGUMENT,
      'CSR signing error (CertSigner is not supported: Meltemi signs with the mesh CA only)',
    );
  const identity = metadata?.ImpersonatedIdentity;
  if (identity !== undefined && identity !== '') {
    // No account is trusted to ask for others: node proxies (ztunnel) are not part of this mesh.
    log.warn('ImpersonatedIdentity refused: no trusted node account is configured', { address });
    throw new Refusal(status.UNAUTHENTICATED, 'request impersonation authentication failure');
  }
}

function replyError(error: unknown, reply: sendUnaryData<IstioCertificateResponse>, log: Logger): void {
  if (error instanceof Refusal) {
    reply({ code: error.code, details: error.message });
    return;
  }
  log.error('certificate request failed', { error: errorText(error) });
  reply({ code: status.INTERNAL, details: 'internal error' });
}

const METRIC_ERROR = {
  csr: 'csr_error',
  ttl: 'ttl_error',
  'not-ready': 'ca_not_ready',
  internal: 'cert_generation_error',
} as const;

interface Counters {
  readonly requests: Counter;
  readonly authenticationFailures: Counter;
  readonly parseErrors: Counter;
  readonly identityErrors: Counter;
  readonly signErrors: Counter;
  readonly issued: Counter;
}

function registerCounters(metrics: MetricsRegistry): Counters {
  const counter = (name: string, help: string) => metrics.counter(`citadel_server_${name}`, help);
  return {
    requests: counter('csr_count', 'CSRs received.'),
    authenticationFailures: counter('authentication_failure_count', 'Callers that could not be authenticated.'),
    parseErrors: counter('csr_parsing_err_count', 'CSRs that could not be read or checked.'),
    identityErrors: counter('id_extraction_err_count', 'Callers without an identity.'),
    signErrors: counter('csr_sign_err_count', 'CSRs that were not signed, by error.'),
    issued: counter('success_cert_issuance_count', 'Certificates issued.'),
  };
}
