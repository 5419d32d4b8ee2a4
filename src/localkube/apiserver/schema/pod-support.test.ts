import assert from 'node:assert/strict';
import { test } from 'node:test';
import { podWarnings, refuseUnsupported } from './pod-support.ts';
import type { FieldError, JsonObject, KindSchema } from './types.ts';

const kindOf = (group: string, kind: string): KindSchema => ({
  gvk: { group, version: 'v1', kind },
  custom: false,
  definition: kind,
  schema: {},
  resolve: (schema) => schema,
});
const POD = kindOf('', 'Pod');
const refusedIn = (spec: JsonObject): readonly string[] => {
  const errors: FieldError[] = [];
  refuseUnsupported(structuredClone(spec) as Record<string, unknown>, 'spec', errors);
  return errors.map((error) => error.field);
};

test('what public manifests commonly carry is neither refused nor warned of', () => {
  const spec: JsonObject = {
    securityContext: { seccompProfile: { type: 'RuntimeDefault' }, runAsNonRoot: true },
    topologySpreadConstraints: [{ maxSkew: 1, topologyKey: 'zone', whenUnsatisfiable: 'ScheduleAnyway' }],
    volumes: [{ name: 'm', emptyDir: { medium: 'Memory', sizeLimit: '1Mi' } }],
    containers: [
      {
        name: 'a',
        ports: [{ containerPort: 80 }],
        securityContext: { seccompProfile: { type: 'Unconfined' }, appArmorProfile: { type: 'Unconfined' } },
        resources: { limits: { cpu: '1', memory: '1Gi' }, requests: { 'ephemeral-storage': '1Gi' } },
      },
    ],
  };
  assert.deepEqual(refusedIn(spec), []);
  assert.deepEqual(podWarnings({ spec }, POD), []);
});

test('what does nothing is named with its path, also in templates', () => {
  const spec: JsonObject = {
    securityContext: { seLinuxOptions: { level: 's0' }, appArmorProfile: { type: 'RuntimeDefault' } },
    topologySpreadConstraints: [{ maxSkew: 1, topologyKey: 'zone', whenUnsatisfiable: 'DoNotSchedule' }],
    volumes: [{ name: 'd', emptyDir: { sizeLimit: '1Mi' } }],
    initContainers: [{ name: 'i', lifecycle: { stopSignal: 'SIGUSR1' } }],
    containers: [
      {
        name: 'a',
        ports: [{ containerPort: 80, hostPort: 80 }],
        resources: { limits: { 'ephemeral-storage': '1Gi' } },
      },
    ],
  };
  const fields = [
    'securityContext.appArmorProfile',
    'securityContext.seLinuxOptions',
    'initContainers[0].lifecycle.stopSignal',
    'containers[0].ports[0].hostPort',
    'containers[0].resources.limits[ephemeral-storage]',
    'volumes[0].emptyDir.sizeLimit',
    'topologySpreadConstraints[0]',
  ];
  const named = (warnings: readonly string[]): readonly string[] => warnings.map((text) => text.split(': ')[0] ?? '');
  assert.deepEqual(refusedIn(spec), []);
  assert.deepEqual(
    named(podWarnings({ spec }, POD)),
    fields.map((field) => `spec.${field}`),
  );
  const cronJob = { spec: { jobTemplate: { spec: { template: { spec } } } } };
  assert.deepEqual(
    named(podWarnings(cronJob, kindOf('batch', 'CronJob'))),
    fields.map((field) => `spec.jobTemplate.spec.template.spec.${field}`),
  );
  assert.deepEqual(podWarnings({ spec }, POD, { spec }), [], 'said when it is written, not at every later change');
  assert.deepEqual(podWarnings({ spec }, kindOf('', 'Service')), []);
});

test('what its author relies on is refused by name', () => {
  const local = { type: 'Localhost', localhostProfile: 'x' };
  const spec: JsonObject = {
    securityContext: { seccompProfile: local, appArmorProfile: local },
    hostUsers: false,
    runtimeClassName: 'gvisor',
    os: { name: 'windows' },
    resourceClaims: [{ name: 'gpu' }],
    schedulingGates: [{ name: 'gate' }],
    containers: [
      {
        name: 'a',
        securityContext: { procMount: 'Unmasked' },
        volumeDevices: [{ name: 'v', devicePath: '/dev/x' }],
        volumeMounts: [{ name: 'v', mountPath: '/v', recursiveReadOnly: 'Enabled' }],
      },
    ],
  };
  assert.deepEqual(refusedIn(spec), [
    'spec.securityContext.seccompProfile',
    'spec.securityContext.appArmorProfile',
    'spec.containers[0].securityContext.procMount',
    'spec.containers[0].volumeDevices',
    'spec.containers[0].volumeMounts[0].recursiveReadOnly',
    'spec.runtimeClassName',
    'spec.hostUsers',
    'spec.os.name',
    'spec.resourceClaims',
    'spec.schedulingGates',
  ]);
});
