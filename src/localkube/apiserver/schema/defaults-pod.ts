// Defaults of pods and pod templates. Called by defaults.ts.
import { child, children, type Draft, ensure, fill } from './draft.ts';

/** `template`: inside a workload, where a few pod defaults wait until the pod is made. */
export function podSpecDefaults(spec: Draft, template: boolean): void {
  fill(spec, {
    restartPolicy: 'Always',
    terminationGracePeriodSeconds: 30,
    dnsPolicy: 'ClusterFirst',
    securityContext: {},
    schedulerName: 'default-scheduler',
  });
  if (!template) fill(spec, { enableServiceLinks: true });
  if (typeof spec.serviceAccountName === 'string') fill(spec, { serviceAccount: spec.serviceAccountName });
  else if (typeof spec.serviceAccount === 'string') fill(spec, { serviceAccountName: spec.serviceAccount });
  for (const list of ['initContainers', 'containers', 'ephemeralContainers']) {
    for (const container of children(spec, list)) containerDefaults(container, spec.hostNetwork === true);
  }
  for (const volume of children(spec, 'volumes')) volumeDefaults(volume);
  for (const constraint of children(spec, 'topologySpreadConstraints')) {
    fill(constraint, { nodeAffinityPolicy: 'Honor', nodeTaintsPolicy: 'Ignore' });
  }
}

function containerDefaults(container: Draft, hostNetwork: boolean): void {
  fill(container, {
    imagePullPolicy: pullPolicy(container.image),
    resources: {},
    terminationMessagePath: '/dev/termination-log',
    terminationMessagePolicy: 'File',
  });
  for (const port of children(container, 'ports')) {
    fill(port, { protocol: 'TCP' });
    if (hostNetwork && typeof port.containerPort === 'number') fill(port, { hostPort: port.containerPort });
  }
  for (const variable of children(container, 'env'))
    fill(child(child(variable, 'valueFrom'), 'fieldRef'), { apiVersion: 'v1' });
  for (const probe of ['livenessProbe', 'readinessProbe', 'startupProbe']) probeDefaults(child(container, probe));
  const lifecycle = child(container, 'lifecycle');
  for (const hook of ['postStart', 'preStop']) httpGetDefaults(child(child(lifecycle, hook), 'httpGet'));
  const resources = child(container, 'resources');
  const limits = child(resources, 'limits');
  if (resources && limits) {
    const requests = ensure(resources, 'requests');
    for (const [name, value] of Object.entries(limits)) requests[name] ??= value;
  }
}

function pullPolicy(image: unknown): string {
  if (typeof image !== 'string' || image.includes('@')) return 'IfNotPresent';
  const tag = /:([^:/]+)$/.exec(image)?.[1];
  return tag === undefined || tag === 'latest' ? 'Always' : 'IfNotPresent';
}

function probeDefaults(probe: Draft | undefined): void {
  if (!probe) return;
  fill(probe, { timeoutSeconds: 1, periodSeconds: 10, successThreshold: 1, failureThreshold: 3 });
  // Zero means absent to Go, so a client that sends 0 gets the default too.
  for (const [key, value] of [
    ['timeoutSeconds', 1],
    ['periodSeconds', 10],
    ['successThreshold', 1],
    ['failureThreshold', 3],
  ] as const) {
    if (probe[key] === 0) probe[key] = value;
  }
  httpGetDefaults(child(probe, 'httpGet'));
  fill(child(probe, 'grpc'), { service: '' });
}

function httpGetDefaults(get: Draft | undefined): void {
  fill(get, { path: '/', scheme: 'HTTP' });
}

function volumeDefaults(volume: Draft): void {
  if (Object.keys(volume).every((key) => key === 'name')) volume.emptyDir = {};
  for (const kind of ['secret', 'configMap', 'downwardAPI', 'projected'])
    fill(child(volume, kind), { defaultMode: 420 });
  fill(child(volume, 'hostPath'), { type: '' });
  fieldRefs(child(volume, 'downwardAPI'));
  for (const source of children(child(volume, 'projected'), 'sources')) {
    fill(child(source, 'serviceAccountToken'), { expirationSeconds: 3600 });
    fieldRefs(child(source, 'downwardAPI'));
  }
  const claim = child(child(volume, 'ephemeral'), 'volumeClaimTemplate');
  fill(child(claim, 'spec'), { volumeMode: 'Filesystem' });
}

function fieldRefs(downward: Draft | undefined): void {
  for (const item of children(downward, 'items')) fill(child(item, 'fieldRef'), { apiVersion: 'v1' });
}
