// What a kind may do at each step on its way into the store. Implemented by the files beside, asked by index.ts.
import type { Core, RequestContext } from '../core.ts';
import type { ApiObject } from '../json.ts';
import type { ResourceDef } from '../resources.ts';

export interface Strategy {
  /** Nodes: the kubelet registers them with their status. */
  readonly keepsStatusOnCreate?: boolean;
  prepareCreate?(core: Core, object: ApiObject, context: RequestContext, def: ResourceDef): void;
  prepareUpdate?(
    core: Core,
    next: ApiObject,
    live: ApiObject,
    context: RequestContext,
    subresource: string | undefined,
  ): void;
  /** Throws ApiError. */
  validate?(core: Core, next: ApiObject, live: ApiObject | undefined, context: RequestContext, def: ResourceDef): void;
  /** Takes shared numbers; nothing may be awaited between this and the write. */
  allocate?(core: Core, next: ApiObject, live: ApiObject | undefined): void;
  checkDelete?(core: Core, live: ApiObject): void;
  markDeleted?(core: Core, next: ApiObject): void;
}
