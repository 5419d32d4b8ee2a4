// What every operation of the API server stands on, and what it knows about one request. Made by server.ts.
import type { Clock } from '../../base/runtime/clock.ts';
import type { Logger } from '../../base/runtime/log.ts';
import type { Store, StoredObject } from '../store/store.ts';
import { type ApiObject, clone, type Dict, dict, str } from './json.ts';
import { groupVersion, type Registry, type ResourceDef } from './resources.ts';
import type { FieldValidation, JsonObject, KindSchema, SchemaRegistry } from './schema/index.ts';
import { internal } from './status.ts';
import type { WebhookCaller } from './webhooks/call.ts';

export interface UserInfo {
  readonly username: string;
  readonly uid?: string;
  readonly groups: readonly string[];
  readonly extra?: Readonly<Record<string, readonly string[]>>;
}

export interface Core {
  readonly store: Store;
  readonly registry: Registry;
  readonly schemas: SchemaRegistry;
  readonly clock: Clock;
  readonly log: Logger;
  readonly webhooks: WebhookCaller;
  readonly serviceIps: ServiceRanges;
  /** Fills Secrets of type kubernetes.io/service-account-token. */
  readonly accountSecrets: AccountSecrets;
}

export interface AccountSecrets {
  readonly caPem: string;
  token(namespace: string, account: string, uid: string, secret: string): string;
}

export interface ServiceRanges {
  /** First two numbers of the /16 of ClusterIPs: `10.96`. */
  readonly prefix: string;
  readonly nodePortFirst: number;
  readonly nodePortLast: number;
}

/** One request, whoever made it. */
export interface RequestContext {
  readonly user: UserInfo;
  readonly dryRun: boolean;
  readonly fieldManager: string;
  readonly fieldValidation: FieldValidation;
  readonly force: boolean;
  /** For `Warning:` headers; operations add to it. */
  readonly warnings: string[];
  /** Keys the body had twice; told by the body parser. */
  readonly duplicates?: readonly string[];
}

export const ADMIN: UserInfo = { username: 'meltemi:admin', groups: ['system:masters', 'system:authenticated'] };

export function nowText(clock: Clock): string {
  return `${new Date(clock.now()).toISOString().slice(0, 19)}Z`;
}

export function schemaOf(core: Core, def: ResourceDef): KindSchema {
  const schema = core.schemas.kind({ group: def.group, version: def.version, kind: def.kind });
  if (!schema) throw internal(`no schema for ${groupVersion(def)} ${def.kind}`);
  return schema;
}

export function asJson(value: unknown): JsonObject {
  return value as JsonObject;
}

/** The stored object in the version `def` serves. Shares memory with the store: not to be changed. */
export function fromStorage(def: ResourceDef, stored: StoredObject): ApiObject {
  const object = stored as unknown as ApiObject;
  const wanted = groupVersion(def);
  if (object.apiVersion === wanted) return object;
  if (def.collection === '/events') return wanted === 'v1' ? object : toEventsV1(object);
  return { ...object, apiVersion: wanted };
}

/** The object as the store keeps it. */
export function toStorage(def: ResourceDef, object: ApiObject): StoredObject {
  if (object.apiVersion === def.storageApiVersion) return object as unknown as StoredObject;
  if (def.collection === '/events') return toCoreEvent(object) as unknown as StoredObject;
  return { ...object, apiVersion: def.storageApiVersion } as unknown as StoredObject;
}

/** A copy the request may change. */
export function owned(object: ApiObject): ApiObject {
  return clone(object);
}

const EVENT_FIELDS: readonly (readonly [string, string])[] = [
  ['involvedObject', 'regarding'],
  ['message', 'note'],
  ['source', 'deprecatedSource'],
  ['firstTimestamp', 'deprecatedFirstTimestamp'],
  ['lastTimestamp', 'deprecatedLastTimestamp'],
  ['count', 'deprecatedCount'],
  ['reportingComponent', 'reportingController'],
];

function toEventsV1(event: ApiObject): ApiObject {
  const out: Dict = { ...event, apiVersion: 'events.k8s.io/v1' };
  for (const [core, newer] of EVENT_FIELDS) {
    if (out[core] !== undefined) out[newer] = out[core];
    delete out[core];
  }
  return out as ApiObject;
}

function toCoreEvent(event: ApiObject): ApiObject {
  const out: Dict = { ...event, apiVersion: 'v1' };
  for (const [core, newer] of EVENT_FIELDS) {
    if (out[newer] !== undefined) out[core] = out[newer];
    delete out[newer];
  }
  const source = dict(out.source);
  if (!str(source.component) && out.reportingComponent) out.source = { ...source, component: out.reportingComponent };
  return out as ApiObject;
}
