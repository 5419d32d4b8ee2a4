// The Kubernetes API as a client sees it. Implemented over HTTP (http-client.ts) and, inside localkube, in process.
// Called by localkube's controllers, kubelet and network, by the control plane, and by the CLI.

export interface OwnerReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
  readonly controller?: boolean;
  readonly blockOwnerDeletion?: boolean;
}

export interface ObjectMeta {
  readonly name: string;
  readonly namespace?: string;
  readonly generateName?: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly generation?: number;
  readonly creationTimestamp?: string;
  readonly deletionTimestamp?: string;
  readonly deletionGracePeriodSeconds?: number;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly ownerReferences?: readonly OwnerReference[];
  readonly finalizers?: readonly string[];
  readonly managedFields?: readonly unknown[];
}

/** Any object of the API. Kinds with a known shape extend it (src/api/kubernetes/). */
export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: ObjectMeta;
}

/** Names a collection: `{group: 'apps', version: 'v1', resource: 'deployments'}`; the core group is ''. */
export interface ResourceType {
  readonly group: string;
  readonly version: string;
  /** Plural, lower case. */
  readonly resource: string;
  readonly kind: string;
  readonly namespaced: boolean;
}

export interface ListOptions {
  /** Absent: all namespaces. */
  readonly namespace?: string;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
}

export interface KubeList<T extends KubeObject> {
  readonly resourceVersion: string;
  readonly items: readonly T[];
}

export type WatchEvent<T extends KubeObject> =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'; readonly object: T }
  | { readonly type: 'BOOKMARK'; readonly resourceVersion: string };

export type PatchType = 'json' | 'merge' | 'strategic' | 'apply';

export interface WriteOptions {
  readonly fieldManager?: string;
  /** Server-side apply only. */
  readonly force?: boolean;
  /** `status`, `scale`, `eviction`, `token`, `binding`. */
  readonly subresource?: string;
}

export interface DeleteOptions {
  readonly gracePeriodSeconds?: number;
  readonly propagationPolicy?: 'Background' | 'Foreground' | 'Orphan';
  /** Refuse with 409 when the object is another one. */
  readonly uid?: string;
}

/** Every call rejects with {@link KubeError} when the server answers with a Status, or with code 0 when it cannot be reached. */
export interface KubeClient {
  get<T extends KubeObject>(type: ResourceType, namespace: string | undefined, name: string): Promise<T>;
  list<T extends KubeObject>(type: ResourceType, options?: ListOptions): Promise<KubeList<T>>;
  create<T extends KubeObject>(type: ResourceType, object: T, options?: WriteOptions): Promise<T>;
  /** PUT; 409 when metadata.resourceVersion is given and not the stored one. */
  update<T extends KubeObject>(type: ResourceType, object: T, options?: WriteOptions): Promise<T>;
  patch<T extends KubeObject>(
    type: ResourceType,
    namespace: string | undefined,
    name: string,
    patchType: PatchType,
    patch: unknown,
    options?: WriteOptions,
  ): Promise<T>;
  delete(type: ResourceType, namespace: string | undefined, name: string, options?: DeleteOptions): Promise<void>;
  /** POST of a review or token request: TokenReview, SubjectAccessReview, `serviceaccounts/NAME/token`. */
  post<T>(path: string, body: unknown): Promise<T>;
  /** Events after `resourceVersion`, until `signal` aborts; ends normally when the server closes the watch. Rejects with code 410 when too old. */
  watch<T extends KubeObject>(
    type: ResourceType,
    options: ListOptions & { readonly resourceVersion: string },
    onEvent: (event: WatchEvent<T>) => void,
    signal: AbortSignal,
  ): Promise<void>;
}

export class KubeError extends Error {
  /** HTTP status; 0 when the server could not be reached. */
  readonly code: number;
  /** Status.reason: NotFound, AlreadyExists, Conflict, Invalid, Forbidden … */
  readonly reason: string;
  constructor(code: number, reason: string, message: string) {
    super(message);
    this.name = 'KubeError';
    this.code = code;
    this.reason = reason;
  }
}

/** A list that keeps itself current. Made by createInformer (informer.ts). */
export interface Informer<T extends KubeObject> {
  /** Resolves once the first list is in. */
  readonly synced: Promise<void>;
  get(namespace: string | undefined, name: string): T | undefined;
  list(namespace?: string): readonly T[];
  /** Called for every change after and including the first list; returns the unsubscriber. */
  onChange(handler: (change: Change<T>) => void): () => void;
  close(): void;
}

export type Change<T extends KubeObject> =
  | { readonly kind: 'added'; readonly object: T }
  | { readonly kind: 'updated'; readonly object: T; readonly previous: T }
  | { readonly kind: 'deleted'; readonly object: T };
