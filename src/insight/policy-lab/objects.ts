// The Kubernetes objects a mesh under test consists of, as an API server would hold them. Called by mesh.ts. Pure.
import type { KubeObject } from '../../base/kube/types.ts';
import type { Addresses } from './addresses.ts';
import type { MeshTest, TestService, TestWorkload } from './format.ts';

export const ROOT_NAMESPACE = 'istio-system';
export const DOMAIN = 'cluster.local';

/** One replica. */
export interface TestPod {
  /** `<workload>-<replica>`. */
  readonly name: string;
  readonly key: string;
  readonly workload: TestWorkload;
  readonly ip: string;
}

export interface MeshObjects {
  readonly objects: readonly KubeObject[];
  readonly pods: readonly TestPod[];
  readonly services: readonly TestService[];
}

/** Objects are as old as their place in the file says: the first is the oldest. */
const EPOCH = Date.UTC(2026, 0, 1);

export function meshObjects(test: MeshTest, addresses: Addresses, yaml: (value: unknown) => string): MeshObjects {
  const pods = podsOf(test, addresses);
  const names = new Set([
    ROOT_NAMESPACE,
    ...test.namespaces.map((n) => n.name),
    ...test.workloads.map((w) => w.namespace),
    ...test.services.map((s) => s.namespace),
  ]);
  let age = 0;
  const created = (): string => {
    age += 1;
    return new Date(EPOCH + age * 1000).toISOString();
  };
  const mesh = { accessLogFile: '/dev/stdout', trustDomain: test.trustDomain, ...test.meshConfig };
  return {
    pods,
    services: test.services,
    objects: [
      {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name: 'istio', namespace: ROOT_NAMESPACE },
        data: { mesh: yaml(mesh) },
      } as KubeObject,
      ...[...names].map((name) => ({
        apiVersion: 'v1',
        kind: 'Namespace',
        metadata: { name, labels: test.namespaces.find((n) => n.name === name)?.labels ?? {} },
      })),
      ...nodesOf(test),
      ...test.services.flatMap((service) => serviceObjects(service, pods, addresses, created())),
      ...pods.map((pod) => podObject(pod)),
      ...test.resources.map(({ object }) => ({
        ...stored(object),
        metadata: {
          resourceVersion: '1',
          ...object.metadata,
          creationTimestamp: object.metadata.creationTimestamp ?? created(),
        },
      })),
    ],
  };
}

/** As the API server keeps it: stringData of a Secret becomes data. */
function stored(object: KubeObject): KubeObject {
  const { stringData, ...rest } = object as KubeObject & {
    readonly stringData?: Readonly<Record<string, string>>;
    readonly data?: Readonly<Record<string, string>>;
  };
  if (object.kind !== 'Secret' || stringData === undefined) return object;
  const encoded = Object.entries(stringData).map(([k, v]) => [k, Buffer.from(v).toString('base64')]);
  return { ...rest, data: { ...rest.data, ...Object.fromEntries(encoded) } } as KubeObject;
}

function podsOf(test: MeshTest, addresses: Addresses): readonly TestPod[] {
  return test.workloads.flatMap((workload) =>
    (addresses.pods.get(`${workload.namespace}/${workload.name}`) ?? []).map((ip, i) => ({
      name: `${workload.name}-${i}`,
      key: `${workload.namespace}/${workload.name}`,
      workload,
      ip,
    })),
  );
}

function nodeName(workload: TestWorkload): string {
  return workload.locality === undefined ? 'node' : `node-${workload.locality.replaceAll('/', '-')}`;
}

function nodesOf(test: MeshTest): KubeObject[] {
  const nodes = new Map<string, string | undefined>();
  for (const workload of test.workloads) nodes.set(nodeName(workload), workload.locality);
  return [...nodes].map(([name, locality]) => {
    const [region = '', zone = '', subZone = ''] = locality?.split('/') ?? [];
    const labels: Record<string, string> = {};
    if (region !== '') labels['topology.kubernetes.io/region'] = region;
    if (zone !== '') labels['topology.kubernetes.io/zone'] = zone;
    if (subZone !== '') labels['topology.istio.io/subzone'] = subZone;
    return { apiVersion: 'v1', kind: 'Node', metadata: { name, labels } };
  });
}

export function labelsOf(workload: TestWorkload): Readonly<Record<string, string>> {
  return Object.keys(workload.labels).length > 0 ? workload.labels : { app: workload.name };
}

export function selects(service: TestService, pod: TestPod): boolean {
  const { workload } = pod;
  if (workload.namespace !== service.namespace || Object.keys(service.selector).length === 0) return false;
  const labels = labelsOf(workload);
  return Object.entries(service.selector).every(([key, value]) => labels[key] === value);
}

function serviceObjects(
  service: TestService,
  pods: readonly TestPod[],
  addresses: Addresses,
  creationTimestamp: string,
): KubeObject[] {
  const { name, namespace, labels, annotations } = service;
  const clusterIP = addresses.clusterIps.get(`${namespace}/${name}`) ?? 'None';
  const ports = service.ports.map((p) => ({ ...p, protocol: 'TCP' }));
  return [
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name, namespace, labels, annotations, creationTimestamp, resourceVersion: '1' },
      spec: { clusterIP, clusterIPs: [clusterIP], selector: service.selector, ports },
    } as KubeObject,
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name, namespace, labels: { 'kubernetes.io/service-name': name }, resourceVersion: '1' },
      addressType: 'IPv4',
      ports: service.ports.map((p) => ({ name: p.name, port: p.targetPort, protocol: 'TCP' })),
      endpoints: pods
        .filter((pod) => selects(service, pod))
        .map((pod) => ({
          addresses: [pod.ip],
          conditions: { ready: true, serving: true },
          nodeName: nodeName(pod.workload),
          targetRef: { kind: 'Pod', namespace, name: pod.name },
        })),
    } as KubeObject,
  ];
}

function podObject(pod: TestPod): KubeObject {
  const { workload } = pod;
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: pod.name,
      namespace: workload.namespace,
      labels: { ...labelsOf(workload), ...(hasProxy(workload) ? { 'security.istio.io/tlsMode': 'istio' } : {}) },
      ownerReferences: [
        { apiVersion: 'apps/v1', kind: 'StatefulSet', name: workload.name, uid: workload.name, controller: true },
      ],
      resourceVersion: '1',
    },
    spec: {
      serviceAccountName: workload.serviceAccount,
      nodeName: nodeName(workload),
      containers: [{ name: workload.name, ports: [] }],
    },
    status: { phase: 'Running', podIP: pod.ip, podIPs: [{ ip: pod.ip }] },
  } as KubeObject;
}

export function hasProxy(workload: TestWorkload): boolean {
  return workload.mesh || workload.image.kind === 'gateway';
}
