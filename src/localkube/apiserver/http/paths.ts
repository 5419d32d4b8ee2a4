// Everything that is not a resource: health, version, discovery, OpenAPI, token keys. Called by http/handler.ts.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { TokenIssuer } from '../auth/tokens.ts';
import type { Core } from '../core.ts';
import { aggregated, legacyRoot } from '../discovery.ts';
import type { OpenApi, OpenApiDocument } from '../schema/index.ts';
import { ApiError, unknownPath } from '../status.ts';
import { discoveryForm } from './negotiate.ts';
import { sendObject, sendText } from './respond.ts';

export const VERSION = {
  major: '1',
  minor: '33',
  emulationMajor: '1',
  emulationMinor: '33',
  minCompatibilityMajor: '1',
  minCompatibilityMinor: '32',
  gitVersion: 'v1.33.4',
  gitCommit: '',
  gitTreeState: 'clean',
  buildDate: '2025-08-12T00:00:00Z',
  goVersion: '',
  compiler: '',
  platform: 'linux/amd64',
} as const;

const HEALTH: ReadonlySet<string> = new Set([
  '/healthz',
  '/livez',
  '/readyz',
  '/healthz/ping',
  '/livez/ping',
  '/readyz/ping',
]);
const ROOT_PATHS = [
  '/.well-known/openid-configuration',
  '/api',
  '/apis',
  '/healthz',
  '/livez',
  '/openapi/v2',
  '/openapi/v3',
  '/openid/v1/jwks',
  '/readyz',
  '/version',
];

export interface PathServices {
  readonly core: Core;
  readonly tokens: TokenIssuer;
  readonly openApi: () => OpenApi;
}

export function servePath(services: PathServices, request: IncomingMessage, response: ServerResponse, url: URL): void {
  const path = url.pathname.length > 1 ? url.pathname.replace(/\/$/, '') : url.pathname;
  if (request.method !== 'GET' && request.method !== 'HEAD')
    throw new ApiError(405, 'MethodNotAllowed', 'the server does not allow this method on the requested resource');
  const { core, tokens } = services;
  if (HEALTH.has(path)) {
    const text = url.searchParams.has('verbose') ? `[+]ping ok\n[+]store ok\n${path.slice(1)} check passed\n` : 'ok';
    sendText(response, 200, 'text/plain; charset=utf-8', text);
  } else if (path === '/version') sendObject(response, 200, VERSION);
  else if (path === '/.well-known/openid-configuration') sendObject(response, 200, tokens.discovery());
  else if (path === '/openid/v1/jwks')
    sendText(response, 200, 'application/jwk-set+json', JSON.stringify(tokens.keys()));
  else if (path === '/') sendObject(response, 200, { paths: ROOT_PATHS });
  else if (path.startsWith('/openapi/')) serveOpenApi(services, request, response, path);
  else serveDiscovery(core, request, response, path);
}

function serveDiscovery(core: Core, request: IncomingMessage, response: ServerResponse, path: string): void {
  const form = path === '/api' || path === '/apis' ? discoveryForm(request.headers.accept) : 'legacy';
  if (form !== 'legacy' && (path === '/api' || path === '/apis')) {
    const type = `application/json;g=apidiscovery.k8s.io;v=${form};as=APIGroupDiscoveryList`;
    sendText(response, 200, type, JSON.stringify(aggregated(core.registry, path, form)), [], { vary: 'Accept' });
    return;
  }
  const found = legacyRoot(core.registry, path);
  if (!found) throw unknownPath();
  sendObject(response, 200, found);
}

function serveOpenApi(services: PathServices, request: IncomingMessage, response: ServerResponse, path: string): void {
  const openApi = services.openApi();
  const document: OpenApiDocument | undefined =
    path === '/openapi/v3'
      ? openApi.v3Index()
      : path === '/openapi/v2'
        ? openApi.v2(request.headers.accept)
        : path.startsWith('/openapi/v3/')
          ? openApi.v3(path.slice('/openapi/v3/'.length))
          : undefined;
  if (!document && path === '/openapi/v2')
    throw new ApiError(
      406,
      'NotAcceptable',
      'only the following media types are accepted: application/json, application/com.github.proto-openapi.spec.v2@v1.0+protobuf',
    );
  if (!document) throw unknownPath();
  const etag = document.etag.startsWith('"') ? document.etag : `"${document.etag}"`;
  if (request.headers['if-none-match'] === etag) {
    response.writeHead(304, { etag });
    response.end();
    return;
  }
  sendText(response, 200, document.contentType, document.body, [], { etag, vary: 'Accept' });
}
