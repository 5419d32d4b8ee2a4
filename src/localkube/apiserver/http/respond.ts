// Writes answers: JSON or YAML, Warning headers, Status objects. Called by the HTTP layer.
import type { ServerResponse } from 'node:http';
import { stringify } from 'yaml';
import type { Dict } from '../json.ts';
import { type ApiError, statusObject } from '../status.ts';

const MAX_WARNINGS = 32;
const MAX_WARNING_BYTES = 512;

export function warningHeaders(warnings: readonly string[]): string[] {
  return [...new Set(warnings)].slice(0, MAX_WARNINGS).map((warning) => {
    const text = warning
      .replace(/[^\x20-\x7e]/g, ' ')
      .slice(0, MAX_WARNING_BYTES)
      .replace(/(["\\])/g, '\\$1');
    return `299 - "${text}"`;
  });
}

export function sendObject(
  response: ServerResponse,
  code: number,
  object: Dict,
  warnings: readonly string[] = [],
  yaml = false,
): void {
  const body = yaml ? stringify(object) : `${JSON.stringify(object)}\n`;
  sendText(response, code, yaml ? 'application/yaml' : 'application/json', body, warnings);
}

export function sendText(
  response: ServerResponse,
  code: number,
  type: string,
  body: string | Buffer,
  warnings: readonly string[] = [],
  headers: Readonly<Record<string, string>> = {},
): void {
  if (response.headersSent || response.destroyed) return;
  const bytes = typeof body === 'string' ? Buffer.from(body) : body;
  if (warnings.length) response.setHeader('warning', warningHeaders(warnings));
  response.writeHead(code, {
    'content-type': type,
    'cache-control': 'no-cache, private',
    'content-length': bytes.length,
    ...headers,
  });
  response.end(bytes);
}

export function sendError(response: ServerResponse, error: ApiError, warnings: readonly string[] = []): void {
  if (error.code === 401 && !response.headersSent) response.setHeader('www-authenticate', 'Bearer realm="kubernetes"');
  if (error.details?.retryAfterSeconds && !response.headersSent)
    response.setHeader('retry-after', String(error.details.retryAfterSeconds));
  sendObject(response, error.code, statusObject(error), warnings);
}
