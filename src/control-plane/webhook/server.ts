// The webhook server, HTTPS 15017: /inject… and /validate speak admission.k8s.io/v1 AdmissionReview.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import type { AdmissionRequest, AdmissionResponse, Injector } from '../injection/types.ts';
import type { ServerCertificate } from '../serve/server-certificate.ts';
import { validateAdmission } from './validate.ts';

export interface WebhookOptions {
  readonly certificate: ServerCertificate;
  readonly injector: Injector;
  readonly log: Logger;
  readonly validated: (kind: AdmissionRequest['kind'], response: AdmissionResponse) => void;
}

/** A pod with large annotations is far below; etcd itself takes 1.5 MiB. */
const MAX_BODY_BYTES = 3 * 1024 * 1024;
const MAX_HEADER_BYTES = 32 * 1024;
const REQUEST_TIMEOUT_MS = 30_000;

export function createWebhookServer(options: WebhookOptions): Server {
  const tls = (pair = options.certificate.current()) => ({
    key: pair.keyPem,
    cert: pair.chainPem,
    minVersion: 'TLSv1.2' as const,
  });
  const server = createServer(
    { ...tls(), maxHeaderSize: MAX_HEADER_BYTES, requestTimeout: REQUEST_TIMEOUT_MS },
    (request, response) => {
      answer(options, request, response).catch((error: unknown) => {
        options.log.warn('webhook request failed', { path: request.url, error: errorText(error) });
        if (!response.headersSent) fail(response, error instanceof BadReview ? 400 : 500, errorText(error));
      });
    },
  );
  options.certificate.onChange((pair) => server.setSecureContext(tls(pair)));
  server.on('clientError', (_error, socket) => socket.destroy());
  server.on('tlsClientError', (_error, socket) => socket.destroy());
  return server;
}

class BadReview extends Error {}

async function answer(options: WebhookOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const path = new URL(request.url ?? '/', 'https://istiod').pathname;
  const inject = path === '/inject' || path.startsWith('/inject/');
  if (!inject && path !== '/validate' && !path.startsWith('/validate/')) {
    request.resume();
    return fail(response, 404, 'not found; this port serves /inject and /validate');
  }
  if (request.method !== 'POST') {
    request.resume();
    return fail(response, 405, 'an AdmissionReview is sent by POST');
  }
  const { apiVersion, admission } = parseReview(await readBody(request));
  let result: AdmissionResponse;
  if (inject) result = await options.injector.handle(admission, path);
  else {
    result = validateAdmission(admission);
    options.validated(admission.kind, result);
  }
  const body = JSON.stringify({ apiVersion, kind: 'AdmissionReview', response: onWire(result) });
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
  response.end(body);
}

async function readBody(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request) {
    if (!Buffer.isBuffer(part)) throw new BadReview('unexpected body');
    size += part.length;
    if (size > MAX_BODY_BYTES) throw new BadReview(`the body is larger than ${MAX_BODY_BYTES} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

function parseReview(body: string): { readonly apiVersion: string; readonly admission: AdmissionRequest } {
  let review: unknown;
  try {
    review = JSON.parse(body);
  } catch {
    throw new BadReview('the body is not JSON');
  }
  const raw = field(review, 'request');
  const uid = field(raw, 'uid');
  const kind = field(raw, 'kind');
  if (typeof uid !== 'string' || typeof kind !== 'object' || kind === null)
    throw new BadReview('the body is not an AdmissionReview with request.uid and request.kind');
  const str = (value: unknown): string => (typeof value === 'string' ? value : '');
  const oldObject = field(raw, 'oldObject');
  return {
    apiVersion: str(field(review, 'apiVersion')) || 'admission.k8s.io/v1',
    admission: {
      uid,
      namespace: str(field(raw, 'namespace')),
      operation: str(field(raw, 'operation')),
      object: field(raw, 'object'),
      dryRun: field(raw, 'dryRun') === true,
      kind: { group: str(field(kind, 'group')), version: str(field(kind, 'version')), kind: str(field(kind, 'kind')) },
      ...(oldObject ? { oldObject } : {}),
    },
  };
}

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name]
    : undefined;
}

function onWire(response: AdmissionResponse): Record<string, unknown> {
  const { patch, ...rest } = response;
  if (!patch) return { ...rest };
  return { ...rest, patchType: 'JSONPatch', patch: Buffer.from(JSON.stringify(patch)).toString('base64') };
}

function fail(response: ServerResponse, code: number, message: string): void {
  response.writeHead(code, { 'content-type': 'text/plain; charset=utf-8' });
  response.end(`${message}\n`);
}
