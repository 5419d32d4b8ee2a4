// The scale subresource of workloads and custom resources. Called by dispatch.ts.
import type { PatchType } from '../../../base/kube/types.ts';
import type { Core, RequestContext } from '../core.ts';
import { asJson } from '../core.ts';
import { type ApiObject, at, clone, type Dict, dict, isDict, num, str } from '../json.ts';
import { applyJsonPatch, applyMergePatch } from '../merge/index.ts';
import type { ResourceDef } from '../resources.ts';
import { badRequest, invalid, modified } from '../status.ts';
import { change, liveObject, type Target } from './update.ts';

interface Paths {
  readonly spec: readonly string[];
  readonly status: readonly string[];
  readonly selector: readonly string[];
}

function pathsOf(def: ResourceDef): Paths {
  const split = (path: string): string[] => path.split('.').filter((part) => part !== '');
  const custom = def.custom?.scale;
  if (!custom) return { spec: ['spec', 'replicas'], status: ['status', 'replicas'], selector: ['spec', 'selector'] };
  return { spec: split(custom.spec), status: split(custom.status), selector: split(custom.selector) };
}

export function getScale(core: Core, target: Target): Dict {
  return scaleObject(target.def, liveObject(core, target));
}

function scaleObject(def: ResourceDef, object: ApiObject): Dict {
  const paths = pathsOf(def);
  const selector = paths.selector.length ? at(object, ...paths.selector) : undefined;
  const meta = object.metadata;
  return {
    kind: 'Scale',
    apiVersion: 'autoscaling/v1',
    metadata: {
      name: meta.name,
      ...(meta.namespace ? { namespace: meta.namespace } : {}),
      uid: meta.uid,
      resourceVersion: meta.resourceVersion,
      creationTimestamp: meta.creationTimestamp,
    },
    spec: { replicas: num(at(object, ...paths.spec)) },
    status: { replicas: num(at(object, ...paths.status)), ...(selector ? { selector: selectorText(selector) } : {}) },
  };
}

function selectorText(selector: unknown): string {
  if (typeof selector === 'string') return selector;
  const labels = dict(at(selector, 'matchLabels'));
  return Object.keys(labels)
    .sort()
    .map((key) => `${key}=${str(labels[key])}`)
    .join(',');
}

export function updateScale(core: Core, context: RequestContext, target: Target, body: unknown): Promise<Dict> {
  return changeScale(core, context, target, () => body);
}

export function patchScale(
  core: Core,
  context: RequestContext,
  target: Target,
  type: PatchType,
  patch: unknown,
): Promise<Dict> {
  if (type === 'apply')
    throw badRequest('server-side apply of the scale subresource is not supported: use a merge patch');
  return changeScale(core, context, target, (scale) =>
    type === 'json' ? applyJsonPatch(asJson(scale), patch) : applyMergePatch(asJson(scale), patch),
  );
}

async function changeScale(
  core: Core,
  context: RequestContext,
  target: Target,
  produce: (scale: Dict) => unknown,
): Promise<Dict> {
  const { def } = target;
  const written = await change(core, context, target, (live) => {
    const scale = produce(scaleObject(def, live));
    if (!isDict(scale)) throw badRequest('the body of the request is not a Scale');
    const revision = str(at(scale, 'metadata', 'resourceVersion'));
    if (revision && revision !== live.metadata.resourceVersion) throw modified(def, target.name);
    const replicas = at(scale, 'spec', 'replicas') ?? 0;
    if (typeof replicas !== 'number' || !Number.isInteger(replicas) || replicas < 0)
      throw invalid({ group: 'autoscaling', resource: 'scales', kind: 'Scale' }, target.name, [
        {
          path: 'spec.replicas',
          message: `Invalid value: ${JSON.stringify(replicas)}: must be greater than or equal to 0`,
        },
      ]);
    const next = clone(live);
    setAt(next, pathsOf(def).spec, replicas);
    return { next, tracked: false };
  });
  return scaleObject(def, written.object);
}

function setAt(object: Dict, path: readonly string[], value: unknown): void {
  let current = object;
  for (const field of path.slice(0, -1)) {
    const child = current[field];
    if (isDict(child)) current = child;
    else {
      const made: Dict = {};
      current[field] = made;
      current = made;
    }
  }
  const last = path.at(-1);
  if (last !== undefined) current[last] = value;
}
