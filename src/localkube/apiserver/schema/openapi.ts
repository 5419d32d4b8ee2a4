import type { ResourceType } from '../../../base/kube/types.ts';
import type { SchemaRegistry } from './registry.ts';

export interface ServedResource extends ResourceType {
  /** `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`. */
  readonly verbs: readonly string[];
  /** `status`, `scale`, … */
  readonly subresources?: readonly string[];
}

export interface OpenApiDocument {
  readonly contentType: string;
  readonly etag: string;
  readonly body: Buffer;
}

export interface OpenApi {
  /** `/openapi/v3` */
  v3Index(): OpenApiDocument;
  /** `path`: `api/v1`, `apis/apps/v1`. Undefined: 404. */
  v3(path: string): OpenApiDocument | undefined;
  /** `/openapi/v2`; `accept` is the request header. Undefined: 406. */
  v2(accept: string | undefined): OpenApiDocument | undefined;
}

/** Documents are rendered on first use and kept until the registry or the resources change. */
export function createOpenApi(_registry: SchemaRegistry, _resources: () => readonly ServedResource[]): OpenApi {
  throw new Error('being written');
}
