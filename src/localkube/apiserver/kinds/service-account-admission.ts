// Gives every new pod its service account, the projected token volume, and its priority. Called by admission.ts.
import type { Core } from '../core.ts';
import { type ApiObject, at, clone, type Dict, dict, dicts, str } from '../json.ts';
import { generateName } from '../ops/shared.ts';
import { ApiError, forbidden } from '../status.ts';

const MOUNT_PATH = '/var/run/secrets/kubernetes.io/serviceaccount';
/** A real cluster's value: an hour, and seven seconds by which it is recognised. */
const TOKEN_SECONDS = 3607;
const MIRROR_ANNOTATION = 'kubernetes.io/config.mirror';

export function admitServiceAccount(core: Core, given: ApiObject): ApiObject {
  const pod = clone(given);
  if (pod.metadata.annotations?.[MIRROR_ANNOTATION] !== undefined) return pod;
  const spec = dict(pod.spec);
  pod.spec = spec;
  const name = str(spec.serviceAccountName) || 'default';
  spec.serviceAccountName = name;
  spec.serviceAccount = name;
  const namespace = pod.metadata.namespace ?? '';
  const account = core.store.get('/serviceaccounts', namespace, name);
  if (!account) {
    const pods = { group: '', resource: 'pods', kind: 'Pod' };
    const error = forbidden(
      pods,
      pod.metadata.name ?? '',
      `error looking up service account ${namespace}/${name}: serviceaccount "${name}" not found`,
    );
    throw new ApiError(error.code, error.reason, error.message, error.details);
  }
  if (dicts(spec.imagePullSecrets).length === 0 && dicts(account.imagePullSecrets).length > 0)
    spec.imagePullSecrets = clone(account.imagePullSecrets);
  const automount = spec.automountServiceAccountToken ?? account.automountServiceAccountToken ?? true;
  if (automount !== false) mountToken(spec);
  return pod;
}

function mountToken(spec: Dict): void {
  const volumes = dicts(spec.volumes);
  const existing = volumes.find(
    (volume) => str(volume.name).startsWith('kube-api-access-') && at(volume, 'projected') !== undefined,
  );
  const volumeName = str(existing?.name) || generateName('kube-api-access-');
  let used = false;
  for (const field of ['initContainers', 'containers'] as const) {
    for (const container of dicts(spec[field])) {
      const mounts = dicts(container.volumeMounts);
      if (mounts.some((mount) => str(mount.mountPath).replace(/\/$/, '') === MOUNT_PATH)) continue;
      container.volumeMounts = [...mounts, { name: volumeName, readOnly: true, mountPath: MOUNT_PATH }];
      used = true;
    }
  }
  if (used && !existing) spec.volumes = [...volumes, tokenVolume(volumeName)];
}

function tokenVolume(name: string): Dict {
  return {
    name,
    projected: {
      sources: [
        { serviceAccountToken: { expirationSeconds: TOKEN_SECONDS, path: 'token' } },
        { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
        {
          downwardAPI: {
            items: [{ path: 'namespace', fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.namespace' } }],
          },
        },
      ],
      defaultMode: 420,
    },
  };
}

/** Looks the priority class up, or the default one. */
export function admitPriority(core: Core, given: ApiObject): ApiObject {
  const spec = dict(given.spec);
  const name = str(spec.priorityClassName);
  const classes = core.store.list('scheduling.k8s.io/priorityclasses');
  const found = name
    ? classes.find((item) => item.metadata.name === name)
    : classes.find((item) => item.globalDefault === true);
  if (name && !found)
    throw forbidden(
      { group: '', resource: 'pods', kind: 'Pod' },
      given.metadata.name ?? '',
      `no PriorityClass with name ${name} was found`,
    );
  return {
    ...given,
    spec: {
      ...spec,
      ...(found ? { priorityClassName: found.metadata.name } : {}),
      priority: found?.value ?? 0,
      preemptionPolicy: found?.preemptionPolicy ?? 'PreemptLowerPriority',
    },
  };
}
