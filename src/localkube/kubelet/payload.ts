// The files of the volumes whose content comes from the API: ConfigMap, Secret, downward API, projected. Pure.
import type { Pod } from '../../api/kubernetes/pod.ts';
import type {
  DownwardApiFile,
  KeyToPath,
  ServiceAccountTokenProjection,
  Volume,
  VolumeProjection,
} from '../../api/kubernetes/volume.ts';
import type { Payload, PayloadFile } from './atomic-writer.ts';
import type { ObjectLookup } from './env.ts';
import { fieldValue, type PodFacts, resourceValue } from './fields.ts';

export interface PayloadInput {
  readonly pod: Pod;
  readonly facts: PodFacts;
  readonly lookup: ObjectLookup;
  token(projection: ServiceAccountTokenProjection): string;
}

const DEFAULT_MODE = 0o644;

/** Undefined for volumes that are plain directories. Throws in the kubelet's words when something is missing. */
export function volumePayload(volume: Volume, input: PayloadInput): Payload | undefined {
  const namespace = input.pod.metadata.namespace ?? 'default';
  if (volume.configMap) {
    const { name = '', defaultMode = DEFAULT_MODE, items, optional } = volume.configMap;
    return selectKeys(
      configMapData(input.lookup, namespace, name, optional),
      items,
      defaultMode,
      optional,
      `configmap "${name}"`,
    );
  }
  if (volume.secret) {
    const { secretName = '', defaultMode = DEFAULT_MODE, items, optional } = volume.secret;
    return selectKeys(
      secretData(input.lookup, namespace, secretName, optional),
      items,
      defaultMode,
      optional,
      `secret "${secretName}"`,
    );
  }
  if (volume.downwardAPI)
    return downwardFiles(volume.downwardAPI.items, volume.downwardAPI.defaultMode ?? DEFAULT_MODE, input);
  if (!volume.projected) return undefined;
  const out = new Map<string, PayloadFile>();
  const mode = volume.projected.defaultMode ?? DEFAULT_MODE;
  for (const source of volume.projected.sources ?? [])
    for (const [name, file] of projectionFiles(source, mode, input, namespace)) out.set(name, file);
  return out;
}

function projectionFiles(source: VolumeProjection, mode: number, input: PayloadInput, namespace: string): Payload {
  if (source.serviceAccountToken) {
    const { path } = source.serviceAccountToken;
    return new Map([[path, { data: Buffer.from(input.token(source.serviceAccountToken)), mode }]]);
  }
  if (source.configMap) {
    const { name = '', items, optional } = source.configMap;
    return selectKeys(
      configMapData(input.lookup, namespace, name, optional),
      items,
      mode,
      optional,
      `configmap "${name}"`,
    );
  }
  if (source.secret) {
    const { name = '', items, optional } = source.secret;
    return selectKeys(secretData(input.lookup, namespace, name, optional), items, mode, optional, `secret "${name}"`);
  }
  if (source.downwardAPI) return downwardFiles(source.downwardAPI.items, mode, input);
  throw new Error(`projected volume source ${Object.keys(source).join(', ')} is not supported by localkube`);
}

type Data = ReadonlyMap<string, Buffer>;

function configMapData(lookup: ObjectLookup, namespace: string, name: string, optional?: boolean): Data {
  const object = lookup.configMap(namespace, name);
  if (!object && !optional) throw new Error(`configmap "${name}" not found`);
  const out = new Map<string, Buffer>();
  for (const [key, value] of Object.entries(object?.data ?? {})) out.set(key, Buffer.from(value));
  for (const [key, value] of Object.entries(object?.binaryData ?? {})) out.set(key, Buffer.from(value, 'base64'));
  return out;
}

function secretData(lookup: ObjectLookup, namespace: string, name: string, optional?: boolean): Data {
  const object = lookup.secret(namespace, name);
  if (!object && !optional) throw new Error(`secret "${name}" not found`);
  return new Map(Object.entries(object?.data ?? {}).map(([key, value]) => [key, Buffer.from(value, 'base64')]));
}

function selectKeys(
  data: Data,
  items: readonly KeyToPath[] | undefined,
  mode: number,
  optional: boolean | undefined,
  what: string,
): Payload {
  if (!items?.length) return new Map([...data].map(([key, value]) => [key, { data: value, mode }]));
  const out = new Map<string, PayloadFile>();
  for (const item of items) {
    const value = data.get(item.key);
    if (value) out.set(item.path, { data: value, mode: item.mode ?? mode });
    else if (!optional) throw new Error(`${what} references non-existent ${what.split(' ')[0]} key: ${item.key}`);
  }
  return out;
}

function downwardFiles(items: readonly DownwardApiFile[] | undefined, mode: number, input: PayloadInput): Payload {
  const out = new Map<string, PayloadFile>();
  for (const item of items ?? []) {
    let text = '';
    if (item.fieldRef) text = fieldValue(input.pod, input.facts, item.fieldRef.fieldPath);
    else if (item.resourceFieldRef) {
      const own = input.pod.spec.containers.find((c) => c.name === item.resourceFieldRef?.containerName);
      if (!own) throw new Error(`container ${item.resourceFieldRef.containerName} not found`);
      text = resourceValue(input.pod, own, item.resourceFieldRef, input.facts);
    }
    out.set(item.path, { data: Buffer.from(text), mode: item.mode ?? mode });
  }
  return out;
}

/** Names of what a pod's volumes and environment read, as `configmap/NAME` and `secret/NAME`. */
export function referencedObjects(pod: Pod): ReadonlySet<string> {
  const out = new Set<string>();
  const add = (kind: 'configmap' | 'secret', name: string | undefined): void => {
    if (name) out.add(`${kind}/${name}`);
  };
  for (const volume of pod.spec.volumes ?? []) {
    add('configmap', volume.configMap?.name);
    add('secret', volume.secret?.secretName);
    for (const source of volume.projected?.sources ?? []) {
      add('configmap', source.configMap?.name);
      add('secret', source.secret?.name);
    }
  }
  for (const container of [...(pod.spec.initContainers ?? []), ...pod.spec.containers]) {
    for (const source of container.envFrom ?? []) {
      add('configmap', source.configMapRef?.name);
      add('secret', source.secretRef?.name);
    }
    for (const { valueFrom } of container.env ?? []) {
      add('configmap', valueFrom?.configMapKeyRef?.name);
      add('secret', valueFrom?.secretKeyRef?.name);
    }
  }
  return out;
}
