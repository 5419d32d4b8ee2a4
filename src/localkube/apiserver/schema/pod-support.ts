// What localkube does not do for a pod: said in a Warning header where the pod runs without it, refused where its author relies on
// it for protection or to work at all. Called by validate-pod.ts (refusals) and by the writing operations (warnings).
import { add } from './check.ts';
import { child, children, type Draft } from './draft.ts';
import type { FieldError, JsonObject, KindSchema } from './types.ts';

interface Finding {
  readonly field: string;
  readonly text: string;
}

/** Path of the pod spec in each kind that has one. */
const SPEC_PATHS: Readonly<Record<string, readonly string[]>> = {
  '/Pod': ['spec'],
  'apps/Deployment': ['spec', 'template', 'spec'],
  'apps/ReplicaSet': ['spec', 'template', 'spec'],
  'apps/StatefulSet': ['spec', 'template', 'spec'],
  'apps/DaemonSet': ['spec', 'template', 'spec'],
  'batch/Job': ['spec', 'template', 'spec'],
  'batch/CronJob': ['spec', 'jobTemplate', 'spec', 'template', 'spec'],
};
const LISTS = ['initContainers', 'containers', 'ephemeralContainers'];
/** Resources that are limited or counted for real. */
const LIMITED = new Set(['cpu', 'memory']);

/** One sentence for each field of the object's pod spec that has no effect; with `old`, only when the spec has changed. */
export function podWarnings(object: JsonObject, kind: KindSchema, old?: JsonObject): readonly string[] {
  const keys = SPEC_PATHS[`${kind.gvk.group}/${kind.gvk.kind}`];
  const spec = keys && specAt(object, keys);
  if (!keys || !spec) return [];
  if (old && JSON.stringify(specAt(old, keys)) === JSON.stringify(spec)) return [];
  return findWithoutEffect(spec, keys.join('.')).map(({ field, text }) => `${field}: ${text}`);
}

/** Adds an error for each field that localkube cannot honour and that must not be passed over. */
export function refuseUnsupported(spec: Draft, path: string, errors: FieldError[]): void {
  for (const { field, text } of findRefused(spec, path))
    add({ errors }, 'FieldValueForbidden', field, `Forbidden: ${text}`);
}

function specAt(object: JsonObject, keys: readonly string[]): Draft | undefined {
  return keys.reduce<Draft | undefined>((at, key) => child(at, key), object as Draft);
}

function containersOf(spec: Draft, path: string): readonly (readonly [Draft, string])[] {
  return LISTS.flatMap((list) =>
    children(spec, list).map((container, i) => [container, `${path}.${list}[${i}]`] as const),
  );
}

function securityContexts(spec: Draft, path: string): readonly (readonly [Draft, string])[] {
  return [[spec, path] as const, ...containersOf(spec, path)].flatMap(([owner, at]) => {
    const context = child(owner, 'securityContext');
    return context ? [[context, `${at}.securityContext`] as const] : [];
  });
}

function findRefused(spec: Draft, path: string): readonly Finding[] {
  const out: Finding[] = [];
  const refuse = (field: string, text: string): void => {
    out.push({ field, text });
  };
  for (const [context, at] of securityContexts(spec, path)) {
    for (const field of ['seccompProfile', 'appArmorProfile'])
      if (child(context, field)?.type === 'Localhost')
        refuse(`${at}.${field}`, 'localkube loads no profiles from the node: use type RuntimeDefault or Unconfined');
    if (typeof context.procMount === 'string' && context.procMount !== 'Default')
      refuse(`${at}.procMount`, 'localkube always masks /proc: use procMount Default');
  }
  for (const [container, at] of containersOf(spec, path)) {
    if (children(container, 'volumeDevices').length > 0)
      refuse(`${at}.volumeDevices`, 'localkube has no block volumes: use volumeMounts');
    for (const [i, mount] of children(container, 'volumeMounts').entries())
      if (mount.recursiveReadOnly === 'Enabled')
        refuse(
          `${at}.volumeMounts[${i}].recursiveReadOnly`,
          'localkube does not make submounts read-only: use readOnly',
        );
  }
  if (typeof spec.runtimeClassName === 'string' && spec.runtimeClassName !== '')
    refuse(`${path}.runtimeClassName`, 'localkube runs every container by runc: remove it');
  if (spec.hostUsers === false)
    refuse(`${path}.hostUsers`, 'localkube makes no user namespaces: remove it, or set runAsUser instead');
  if (child(spec, 'os')?.name === 'windows') refuse(`${path}.os.name`, 'localkube runs Linux containers only');
  if (children(spec, 'resourceClaims').length > 0)
    refuse(`${path}.resourceClaims`, 'localkube has no dynamic resource allocation');
  if (children(spec, 'schedulingGates').length > 0)
    refuse(`${path}.schedulingGates`, 'localkube starts every pod at once: create the pod when it may run');
  return out;
}

function findWithoutEffect(spec: Draft, path: string): readonly Finding[] {
  const out: Finding[] = [];
  const warn = (field: string, text: string): void => {
    out.push({ field, text: `has no effect: ${text}` });
  };
  for (const [context, at] of securityContexts(spec, path)) {
    if (child(context, 'appArmorProfile')?.type === 'RuntimeDefault')
      warn(`${at}.appArmorProfile`, 'localkube applies no AppArmor profile');
    if (Object.keys(child(context, 'seLinuxOptions') ?? {}).length > 0)
      warn(`${at}.seLinuxOptions`, 'localkube sets no SELinux labels');
  }
  for (const [container, at] of containersOf(spec, path)) warnContainer(container, at, warn);
  for (const [i, volume] of children(spec, 'volumes').entries()) {
    const empty = child(volume, 'emptyDir');
    if (empty?.sizeLimit !== undefined && empty.medium !== 'Memory')
      warn(`${path}.volumes[${i}].emptyDir.sizeLimit`, 'localkube limits only volumes of medium Memory');
  }
  for (const [i, spread] of children(spec, 'topologySpreadConstraints').entries())
    if (spread.whenUnsatisfiable === 'DoNotSchedule')
      warn(`${path}.topologySpreadConstraints[${i}]`, 'localkube has one node, there is nothing to spread over');
  return out;
}

function warnContainer(container: Draft, at: string, warn: (field: string, text: string) => void): void {
  for (const [i, port] of children(container, 'ports').entries())
    if (typeof port.hostPort === 'number' && port.hostPort !== 0)
      warn(
        `${at}.ports[${i}].hostPort`,
        'localkube opens no ports of the host for pods; use a Service of type NodePort or LoadBalancer',
      );
  for (const name of Object.keys(child(child(container, 'resources'), 'limits') ?? {}))
    if (!LIMITED.has(name)) warn(`${at}.resources.limits[${name}]`, 'localkube limits only cpu and memory');
  if (child(container, 'lifecycle')?.stopSignal !== undefined)
    warn(`${at}.lifecycle.stopSignal`, 'localkube ends containers with SIGTERM');
}
