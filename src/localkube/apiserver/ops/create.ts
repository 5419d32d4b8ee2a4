// POST of a collection: decode, name, default, admit, validate, store. Called by the REST layer and the local client.
import { randomUUID } from 'node:crypto';
import { admitMutating, admitValidating } from '../admission.ts';
import { asJson, type Core, fromStorage, nowText, type RequestContext, schemaOf } from '../core.ts';
import { type ApiObject, isDict } from '../json.ts';
import { strategyOf } from '../kinds/index.ts';
import { trackUpdate } from '../merge/index.ts';
import type { ResourceDef } from '../resources.ts';
import { podWarnings } from '../schema/index.ts';
import { ApiError, badRequest } from '../status.ts';
import {
  checkNamespace,
  countsGeneration,
  decode,
  generateName,
  hasStatus,
  matchRequest,
  stored,
  validate,
  withDefaults,
  writing,
} from './shared.ts';

const GENERATE_ATTEMPTS = 8;

export interface CreateInput {
  readonly def: ResourceDef;
  readonly namespace: string | undefined;
  readonly body: unknown;
  /** An object of server-side apply: it brings its name and managedFields. */
  readonly applied?: boolean;
}

/** The object as stored (or, on a dry run, as it would be). */
export async function createObject(core: Core, context: RequestContext, input: CreateInput): Promise<ApiObject> {
  const { def } = input;
  let object = input.applied ? (structuredClone(input.body) as ApiObject) : decode(core, context, def, input.body);
  matchRequest(object, def, input.namespace, undefined);
  if (def.namespaced && !object.metadata.namespace)
    throw badRequest('an empty namespace may not be set during creation');
  if (object.metadata.resourceVersion) throw badRequest('resourceVersion should not be set on objects to be created');
  clearServerFields(object, input.applied === true);
  if (!object.metadata.name && !object.metadata.generateName)
    throw new ApiError(
      422,
      'Invalid',
      `${def.kind} "" is invalid: metadata.name: Required value: name or generateName is required`,
      {
        kind: def.kind,
        ...(def.group ? { group: def.group } : {}),
        causes: [
          {
            reason: 'FieldValueRequired',
            message: 'Required value: name or generateName is required',
            field: 'metadata.name',
          },
        ],
      },
    );
  checkNamespace(core, def, object, true);
  const strategy = strategyOf(def);
  if (hasStatus(def) && !strategy.keepsStatusOnCreate) delete object.status;
  object = withDefaults(core, def, object);
  // Before admission, as on a real server: what plugins and webhooks add belongs to nobody.
  if (!input.applied) object = track(core, context, def, object);
  const request = { operation: 'CREATE', def, namespace: input.namespace, context } as const;
  object = await admitMutating(core, { ...request, object });
  return await finish(core, context, def, object, async (candidate) =>
    admitValidating(core, { ...request, object: candidate }),
  );
}

function clearServerFields(object: ApiObject, keepManaged: boolean): void {
  const meta = object.metadata;
  delete meta.uid;
  delete meta.resourceVersion;
  delete meta.creationTimestamp;
  delete meta.deletionTimestamp;
  delete meta.deletionGracePeriodSeconds;
  delete meta.generation;
  delete meta.selfLink;
  if (!keepManaged) delete meta.managedFields;
}

async function finish(
  core: Core,
  context: RequestContext,
  def: ResourceDef,
  admitted: ApiObject,
  checkAdmission: (object: ApiObject) => Promise<void>,
): Promise<ApiObject> {
  const strategy = strategyOf(def);
  const wantsName = !admitted.metadata.name;
  for (let attempt = 1; ; attempt++) {
    const object = structuredClone(admitted);
    if (wantsName) object.metadata.name = generateName(object.metadata.generateName ?? '');
    object.metadata.uid = randomUUID();
    object.metadata.creationTimestamp = nowText(core.clock);
    if (countsGeneration(def)) object.metadata.generation = 1;
    strategy.prepareCreate?.(core, object, context, def);
    validate(core, def, object);
    // Once, whatever the names tried.
    if (attempt === 1) context.warnings.push(...podWarnings(asJson(object), schemaOf(core, def)));
    strategy.validate?.(core, object, undefined, context, def);
    await checkAdmission(object);
    // Shared numbers (ClusterIPs, ports) are taken with no wait between here and the write.
    strategy.allocate?.(core, object, undefined);
    if (context.dryRun) {
      if (core.store.get(def.collection, object.metadata.namespace ?? '', object.metadata.name))
        writing(def, object.metadata.name, () => core.store.create(def.collection, stored(def, object)));
      return object;
    }
    try {
      const written = writing(def, object.metadata.name, () => core.store.create(def.collection, stored(def, object)));
      if (def.inert) context.warnings.push(def.inert);
      if (def.custom?.deprecationWarning) context.warnings.push(def.custom.deprecationWarning);
      return fromStorage(def, written);
    } catch (error) {
      const again =
        wantsName && attempt < GENERATE_ATTEMPTS && error instanceof ApiError && error.reason === 'AlreadyExists';
      if (!again) throw error;
    }
  }
}

function track(core: Core, context: RequestContext, def: ResourceDef, object: ApiObject): ApiObject {
  const tracked = trackUpdate({
    after: asJson(object),
    kind: schemaOf(core, def),
    manager: context.fieldManager,
    now: nowText(core.clock),
  });
  return isDict(tracked) ? (structuredClone(tracked) as unknown as ApiObject) : object;
}
