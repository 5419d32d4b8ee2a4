// Runs the mutating, then the validating webhooks for one request. Called by admission.ts.
import { randomUUID } from 'node:crypto';
import { asJson, type Core, type RequestContext } from '../core.ts';
import { type ApiObject, at, clone, type Dict, dict, dicts, equal, isDict, num, str, strings } from '../json.ts';
import { applyJsonPatch } from '../merge/index.ts';
import { groupVersion, type ResourceDef } from '../resources.ts';
import { ApiError, badRequest, internal } from '../status.ts';
import { matchWebhook, type Operation } from './match.ts';

const DEFAULT_TIMEOUT_SECONDS = 10;
const MAX_WARNING_LENGTH = 4096;
const REVIEW_VERSIONS: ReadonlySet<string> = new Set(['v1', 'v1beta1']);

export interface Admission {
  readonly operation: Operation;
  readonly def: ResourceDef;
  readonly namespace: string | undefined;
  readonly context: RequestContext;
  readonly object?: ApiObject;
  readonly oldObject?: ApiObject;
  readonly subresource?: string | undefined;
  /** For DELETE. */
  readonly name?: string;
}

type Collection = 'mutatingwebhookconfigurations' | 'validatingwebhookconfigurations';

interface Chosen {
  readonly webhook: Dict;
  readonly name: string;
  readonly version: ResourceDef;
}

/** Configurations are not shown to webhooks: nobody could repair a broken one. */
function exempt(admission: Admission): boolean {
  return admission.def.group === 'admissionregistration.k8s.io';
}

export async function runMutatingWebhooks(core: Core, admission: Admission): Promise<ApiObject> {
  let object = admission.object as ApiObject;
  if (exempt(admission)) return object;
  const afterOwn = new Map<Dict, ApiObject>();
  const pass = async (again: boolean): Promise<void> => {
    for (const webhook of webhooksOf(core, 'mutatingwebhookconfigurations')) {
      if (again) {
        const own = afterOwn.get(webhook);
        if (str(webhook.reinvocationPolicy) !== 'IfNeeded' || !own || equal(own, object)) continue;
      }
      const chosen = choose(core, webhook, { ...admission, object });
      if (!chosen) continue;
      object = await mutate(core, { ...admission, object }, chosen);
      afterOwn.set(webhook, object);
    }
  };
  await pass(false);
  await pass(true);
  return object;
}

export async function runValidatingWebhooks(core: Core, admission: Admission): Promise<void> {
  if (exempt(admission)) return;
  const chosen = webhooksOf(core, 'validatingwebhookconfigurations')
    .map((webhook) => choose(core, webhook, admission))
    .filter((item) => item !== undefined);
  // Side by side, as a real server does; the first refusal in order of configuration is told.
  const results = await Promise.allSettled(chosen.map((item) => ask(core, admission, item)));
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

function webhooksOf(core: Core, collection: Collection): readonly Dict[] {
  return core.store.list(`admissionregistration.k8s.io/${collection}`).flatMap((config) => dicts(config.webhooks));
}

function choose(core: Core, webhook: Dict, admission: Admission): Chosen | undefined {
  const { def } = admission;
  const version = matchWebhook(
    webhook,
    {
      operation: admission.operation,
      def,
      subresource: admission.subresource,
      namespace: admission.namespace,
      namespaceLabels: namespaceLabels(core, admission),
      object: admission.object,
      oldObject: admission.oldObject,
    },
    core.registry.versions(def.group, def.resource),
  );
  return version && { webhook, name: str(webhook.name), version };
}

function namespaceLabels(core: Core, admission: Admission): Dict | undefined {
  if (admission.def.collection === '/namespaces')
    return dict(at(admission.object ?? admission.oldObject, 'metadata', 'labels'));
  if (!admission.def.namespaced) return undefined;
  return dict(at(core.store.get('/namespaces', '', admission.namespace ?? ''), 'metadata', 'labels'));
}

async function mutate(core: Core, admission: Admission, chosen: Chosen): Promise<ApiObject> {
  const current = admission.object as ApiObject;
  const response = await ask(core, admission, chosen);
  const patch = str(response?.patch);
  if (patch === '') return current;
  if (str(response?.patchType) !== 'JSONPatch')
    return failed(core, chosen, new Error(`unsupported patch type "${str(response?.patchType)}"`), current);
  try {
    const operations: unknown = JSON.parse(Buffer.from(patch, 'base64').toString('utf8'));
    const sent = inVersion(current, chosen.version);
    const patched = clone(applyJsonPatch(asJson(sent), operations)) as unknown as ApiObject;
    if (!isDict(patched.metadata)) throw new Error('the patch removes metadata');
    patched.apiVersion = current.apiVersion;
    return patched;
  } catch (error) {
    return failed(core, chosen, error, current);
  }
}

/** failurePolicy: throws for Fail, else goes on with `value`. */
function failed<T>(core: Core, chosen: Chosen, error: unknown, value: T): T {
  const text = `failed calling webhook "${chosen.name}": ${error instanceof Error ? error.message : String(error)}`;
  if (str(chosen.webhook.failurePolicy) === 'Ignore') {
    core.log.warn('webhook failed open', { webhook: chosen.name, error: text });
    return value;
  }
  throw internal(text);
}

/** The response of an allowing webhook; undefined when it failed and may be ignored. Throws on denial. */
async function ask(core: Core, admission: Admission, chosen: Chosen): Promise<Dict | undefined> {
  const { webhook, name } = chosen;
  if (admission.context.dryRun && !['None', 'NoneOnDryRun'].includes(str(webhook.sideEffects)))
    throw badRequest(`admission webhook "${name}" does not support dry run`);
  const version = strings(webhook.admissionReviewVersions).find((item) => REVIEW_VERSIONS.has(item)) ?? 'v1';
  const uid = randomUUID();
  const review = {
    kind: 'AdmissionReview',
    apiVersion: `admission.k8s.io/${version}`,
    request: reviewRequest(admission, chosen.version, uid),
  };
  const timeoutMs = num(webhook.timeoutSeconds, DEFAULT_TIMEOUT_SECONDS) * 1000;
  let response: Dict;
  try {
    const answer = await core.webhooks.call(dict(webhook.clientConfig), review, timeoutMs);
    if (!isDict(answer.response)) throw new Error('expected an AdmissionReview with a response, got none');
    response = answer.response;
    if (str(response.uid) !== uid) throw new Error(`expected response.uid="${uid}", got "${str(response.uid)}"`);
  } catch (error) {
    return failed(core, chosen, error, undefined);
  }
  for (const warning of strings(response.warnings))
    admission.context.warnings.push(warning.slice(0, MAX_WARNING_LENGTH));
  if (response.allowed !== true) throw denial(name, dict(response.status));
  return response;
}

function denial(name: string, status: Dict): ApiError {
  const denied = `admission webhook "${name}" denied the request`;
  const why = str(status.message) || str(status.reason);
  const code = num(status.code);
  return new ApiError(
    code >= 400 && code < 600 ? code : 400,
    str(status.reason),
    why ? `${denied}: ${why}` : `${denied} without explanation`,
    isDict(status.details) ? status.details : undefined,
  );
}

function inVersion(object: ApiObject, def: ResourceDef): ApiObject {
  const wanted = groupVersion(def);
  return object.apiVersion === wanted ? object : { ...object, apiVersion: wanted };
}

function reviewRequest(admission: Admission, version: ResourceDef, uid: string): Dict {
  const { def, context, object, oldObject, subresource } = admission;
  const kindOf = (item: ResourceDef): Dict => ({ group: item.group, version: item.version, kind: item.kind });
  const resourceOf = (item: ResourceDef): Dict => ({
    group: item.group,
    version: item.version,
    resource: item.resource,
  });
  const optionsKind =
    admission.operation === 'CREATE'
      ? 'CreateOptions'
      : admission.operation === 'UPDATE'
        ? 'UpdateOptions'
        : 'DeleteOptions';
  return {
    uid,
    kind: kindOf(version),
    resource: resourceOf(version),
    ...(subresource ? { subResource: subresource } : {}),
    requestKind: kindOf(def),
    requestResource: resourceOf(def),
    ...(subresource ? { requestSubResource: subresource } : {}),
    name: admission.name ?? object?.metadata.name ?? oldObject?.metadata.name ?? '',
    ...(admission.namespace ? { namespace: admission.namespace } : {}),
    operation: admission.operation,
    userInfo: {
      username: context.user.username,
      ...(context.user.uid ? { uid: context.user.uid } : {}),
      groups: context.user.groups,
      ...(context.user.extra ? { extra: context.user.extra } : {}),
    },
    object: object ? inVersion(object, version) : null,
    oldObject: oldObject ? inVersion(oldObject, version) : null,
    dryRun: context.dryRun,
    options: {
      kind: optionsKind,
      apiVersion: 'meta.k8s.io/v1',
      ...(context.dryRun ? { dryRun: ['All'] } : {}),
      ...(admission.operation !== 'DELETE' && context.fieldManager ? { fieldManager: context.fieldManager } : {}),
    },
  };
}
