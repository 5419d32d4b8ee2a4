// The objects of the control plane: what `meltemi install` applies for istiod. Pure. Names, ports and labels are Istio's
// so that manifests and habits fit.
import type { KubeObject } from '../../base/kube/types.ts';
import { dockerImage, type Manifest, named, ROOT_NAMESPACE } from './manifest.ts';
import type { InstallSpec } from './profiles.ts';

const LABELS = { app: 'istiod', 'istio.io/rev': 'default', 'operator.istio.io/component': 'Pilot' } as const;
const READY_PERIOD_S = 1;
const CONFIG_GROUPS = [
  'networking.istio.io',
  'security.istio.io',
  'telemetry.istio.io',
  'extensions.istio.io',
  'gateway.networking.k8s.io',
];

export function istiodManifests(spec: InstallSpec): readonly KubeObject[] {
  return [
    named('v1', 'ServiceAccount', 'istiod', LABELS),
    ...rbac(),
    meshConfigMap(spec),
    injectorConfigMap(spec),
    service(),
    deployment(spec),
    disruptionBudget(),
  ];
}

function rbac(): readonly Manifest[] {
  const read = ['get', 'list', 'watch'];
  const write = ['create', 'update', 'patch', 'delete'];
  const clusterRole = named('rbac.authorization.k8s.io/v1', 'ClusterRole', 'istiod-clusterrole-istio-system', LABELS, {
    rules: [
      {
        apiGroups: ['admissionregistration.k8s.io'],
        resources: ['mutatingwebhookconfigurations', 'validatingwebhookconfigurations'],
        verbs: [...read, 'update', 'patch'],
      },
      { apiGroups: CONFIG_GROUPS, resources: ['*'], verbs: read },
      { apiGroups: CONFIG_GROUPS, resources: ['*/status'], verbs: ['update', 'patch'] },
      { apiGroups: ['apiextensions.k8s.io'], resources: ['customresourcedefinitions'], verbs: read },
      { apiGroups: [''], resources: ['pods', 'nodes', 'services', 'namespaces', 'endpoints'], verbs: read },
      { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: read },
      { apiGroups: [''], resources: ['configmaps'], verbs: [...read, ...write] },
      { apiGroups: [''], resources: ['secrets'], verbs: read },
      { apiGroups: ['authentication.k8s.io'], resources: ['tokenreviews'], verbs: ['create'] },
      { apiGroups: ['authorization.k8s.io'], resources: ['subjectaccessreviews'], verbs: ['create'] },
    ],
  });
  const role = named('rbac.authorization.k8s.io/v1', 'Role', 'istiod', LABELS, {
    rules: [
      { apiGroups: [''], resources: ['secrets'], verbs: [...read, ...write] },
      { apiGroups: ['coordination.k8s.io'], resources: ['leases'], verbs: ['get', 'create', 'update', 'patch'] },
    ],
  });
  const subjects = [{ kind: 'ServiceAccount', name: 'istiod', namespace: ROOT_NAMESPACE }];
  const ref = (kind: string, name: string) => ({ apiGroup: 'rbac.authorization.k8s.io', kind, name });
  return [
    clusterRole,
    named('rbac.authorization.k8s.io/v1', 'ClusterRoleBinding', 'istiod-clusterrole-istio-system', LABELS, {
      roleRef: ref('ClusterRole', 'istiod-clusterrole-istio-system'),
      subjects,
    }),
    role,
    named('rbac.authorization.k8s.io/v1', 'RoleBinding', 'istiod', LABELS, {
      roleRef: ref('Role', 'istiod'),
      subjects,
    }),
  ];
}

function meshConfigMap(spec: InstallSpec): Manifest {
  const mesh = {
    defaultProviders: { metrics: ['prometheus'] },
    rootNamespace: ROOT_NAMESPACE,
    trustDomain: 'cluster.local',
    ...spec.meshConfig,
    defaultConfig: {
      discoveryAddress: `istiod.${ROOT_NAMESPACE}.svc:15012`,
      ...((spec.meshConfig.defaultConfig as object | undefined) ?? {}),
    },
  };
  return named('v1', 'ConfigMap', 'istio', LABELS, {
    data: { mesh: JSON.stringify(mesh, null, 2), meshNetworks: 'networks: {}' },
  });
}

function injectorConfigMap(spec: InstallSpec): Manifest {
  const values = { ...spec.values, hub: spec.hub, tag: spec.tag, revision: '' };
  const global = { ...((spec.values.global as object | undefined) ?? {}), hub: spec.hub, tag: spec.tag };
  return named('v1', 'ConfigMap', 'istio-sidecar-injector', LABELS, {
    data: { config: JSON.stringify({ policy: 'enabled' }), values: JSON.stringify({ ...values, global }, null, 2) },
  });
}

function service(): Manifest {
  const port = (name: string, number: number, targetPort = number) => ({
    name,
    port: number,
    targetPort,
    protocol: 'TCP',
  });
  return named(
    'v1',
    'Service',
    'istiod',
    { ...LABELS, istio: 'pilot' },
    {
      spec: {
        ports: [
          port('grpc-xds', 15010),
          port('https-dns', 15012),
          port('https-webhook', 443, 15017),
          port('http-monitoring', 15014),
        ],
        selector: { app: 'istiod', 'istio.io/rev': 'default' },
      },
    },
  );
}

function deployment(spec: InstallSpec): Manifest {
  const field = (name: string, fieldPath: string) => ({ name, valueFrom: { fieldRef: { fieldPath } } });
  const container = {
    name: 'discovery',
    image: dockerImage(spec, 'pilot'),
    args: ['discovery', '--monitoringAddr=:15014', '--log_output_level=default:info', '--domain', 'cluster.local'],
    ports: [
      { containerPort: 8080, name: 'http-debug', protocol: 'TCP' },
      { containerPort: 15010, name: 'grpc-xds', protocol: 'TCP' },
      { containerPort: 15012, name: 'tls-xds', protocol: 'TCP' },
      { containerPort: 15017, name: 'https-webhooks', protocol: 'TCP' },
      { containerPort: 15014, name: 'http-monitoring', protocol: 'TCP' },
    ],
    readinessProbe: {
      httpGet: { path: '/ready', port: 8080 },
      initialDelaySeconds: 0,
      periodSeconds: READY_PERIOD_S,
      timeoutSeconds: 5,
    },
    env: [
      { name: 'REVISION', value: 'default' },
      { name: 'PILOT_CERT_PROVIDER', value: 'istiod' },
      field('POD_NAME', 'metadata.name'),
      field('POD_NAMESPACE', 'metadata.namespace'),
      field('SERVICE_ACCOUNT', 'spec.serviceAccountName'),
      { name: 'CLUSTER_ID', value: 'Kubernetes' },
    ],
    resources: { requests: { cpu: '10m', memory: '100Mi' } },
    securityContext: {
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
      readOnlyRootFilesystem: true,
      runAsNonRoot: true,
      runAsUser: 1337,
      runAsGroup: 1337,
    },
    volumeMounts: [
      { name: 'istio-token', mountPath: '/var/run/secrets/tokens', readOnly: true },
      { name: 'local-certs', mountPath: '/var/run/secrets/istio-dns' },
      { name: 'cacerts', mountPath: '/etc/cacerts', readOnly: true },
    ],
  };
  const volumes = [
    { name: 'local-certs', emptyDir: { medium: 'Memory' } },
    {
      name: 'istio-token',
      projected: {
        sources: [{ serviceAccountToken: { audience: 'istio-ca', expirationSeconds: 43200, path: 'istio-token' } }],
      },
    },
    { name: 'cacerts', secret: { secretName: 'cacerts', optional: true } },
  ];
  const labels = { ...LABELS, istio: 'pilot', 'sidecar.istio.io/inject': 'false' };
  return named(
    'apps/v1',
    'Deployment',
    'istiod',
    { ...LABELS, istio: 'pilot' },
    {
      spec: {
        replicas: 1,
        strategy: { rollingUpdate: { maxSurge: '100%', maxUnavailable: '25%' } },
        selector: { matchLabels: { app: 'istiod', 'istio.io/rev': 'default' } },
        template: {
          metadata: {
            labels,
            annotations: {
              'prometheus.io/port': '15014',
              'prometheus.io/scrape': 'true',
              'sidecar.istio.io/inject': 'false',
            },
          },
          spec: { serviceAccountName: 'istiod', containers: [container], volumes },
        },
      },
    },
  );
}

function disruptionBudget(): Manifest {
  return named('policy/v1', 'PodDisruptionBudget', 'istiod', LABELS, {
    spec: { minAvailable: 1, selector: { matchLabels: { app: 'istiod', 'istio.io/rev': 'default' } } },
  });
}
