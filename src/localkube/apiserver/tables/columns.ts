// kubectl's columns for the built-in kinds. A kind that is not here gets NAME and AGE. Called by table.ts.
import { at, type Dict, dict, dicts, isDict, num, str, strings } from '../json.ts';
import { age, labelsText, orNone } from './format.ts';
import { podRow } from './pods.ts';
import {
  bindingRow,
  containers,
  created,
  createdAt,
  deployment,
  endpointsRow,
  eventRow,
  ingressRow,
  jobRow,
  keys,
  name,
  nodeRow,
  selectorText,
  serviceRow,
  sliceRow,
  spec,
  status,
  template,
} from './rows.ts';

export interface ColumnSet {
  /** `Name`, or `Name*` for a column of -o wide. */
  readonly columns: readonly string[];
  row(object: Dict, now: number): readonly unknown[];
}

const BINDING = ['Name', 'Role', 'Age', 'Users*', 'Groups*', 'ServiceAccounts*'];

export const COLUMNS: Readonly<Record<string, ColumnSet>> = {
  '/pods': {
    columns: ['Name', 'Ready', 'Status', 'Restarts', 'Age', 'IP*', 'Node*', 'Nominated Node*', 'Readiness Gates*'],
    row: podRow,
  },
  '/services': {
    columns: ['Name', 'Type', 'Cluster-IP', 'External-IP', 'Port(s)', 'Age', 'Selector*'],
    row: serviceRow,
  },
  '/namespaces': {
    columns: ['Name', 'Status', 'Age'],
    row: (o, now) => [name(o), str(status(o).phase), created(o, now)],
  },
  '/nodes': {
    columns: [
      'Name',
      'Status',
      'Roles',
      'Age',
      'Version',
      'Internal-IP*',
      'External-IP*',
      'OS-Image*',
      'Kernel-Version*',
      'Container-Runtime*',
    ],
    row: nodeRow,
  },
  '/configmaps': {
    columns: ['Name', 'Data', 'Age'],
    row: (o, now) => [name(o), keys(o.data) + keys(o.binaryData), created(o, now)],
  },
  '/secrets': {
    columns: ['Name', 'Type', 'Data', 'Age'],
    row: (o, now) => [name(o), str(o.type), keys(o.data), created(o, now)],
  },
  '/serviceaccounts': {
    columns: ['Name', 'Secrets', 'Age'],
    row: (o, now) => [name(o), dicts(o.secrets).length, created(o, now)],
  },
  '/endpoints': { columns: ['Name', 'Endpoints', 'Age'], row: endpointsRow },
  '/events': {
    columns: [
      'Last Seen',
      'Type',
      'Reason',
      'Object',
      'Subobject*',
      'Source*',
      'Message',
      'First Seen*',
      'Count*',
      'Name*',
    ],
    row: eventRow,
  },
  '/persistentvolumeclaims': {
    columns: [
      'Name',
      'Status',
      'Volume',
      'Capacity',
      'Access Modes',
      'StorageClass',
      'VolumeAttributesClass',
      'Age',
      'VolumeMode*',
    ],
    row: (o, now) => [
      name(o),
      str(status(o).phase),
      str(spec(o).volumeName),
      str(at(o, 'status', 'capacity', 'storage')),
      strings(status(o).accessModes).join(','),
      str(spec(o).storageClassName),
      orNone(str(spec(o).volumeAttributesClassName)).replace('<none>', '<unset>'),
      created(o, now),
      str(spec(o).volumeMode),
    ],
  },
  '/replicationcontrollers': {
    columns: ['Name', 'Desired', 'Current', 'Ready', 'Age', 'Containers*', 'Images*', 'Selector*'],
    row: (o, now) => [
      name(o),
      num(spec(o).replicas),
      num(status(o).replicas),
      num(status(o).readyReplicas),
      created(o, now),
      ...containers(template(o)),
      labelsText(dict(spec(o).selector)),
    ],
  },
  'apps/deployments': {
    columns: ['Name', 'Ready', 'Up-to-date', 'Available', 'Age', 'Containers*', 'Images*', 'Selector*'],
    row: deployment,
  },
  'apps/replicasets': {
    columns: ['Name', 'Desired', 'Current', 'Ready', 'Age', 'Containers*', 'Images*', 'Selector*'],
    row: (o, now) => [
      name(o),
      num(spec(o).replicas),
      num(status(o).replicas),
      num(status(o).readyReplicas),
      created(o, now),
      ...containers(template(o)),
      selectorText(spec(o).selector),
    ],
  },
  'apps/statefulsets': {
    columns: ['Name', 'Ready', 'Age', 'Containers*', 'Images*'],
    row: (o, now) => [
      name(o),
      `${num(status(o).readyReplicas)}/${num(spec(o).replicas)}`,
      created(o, now),
      ...containers(template(o)),
    ],
  },
  'apps/daemonsets': {
    columns: [
      'Name',
      'Desired',
      'Current',
      'Ready',
      'Up-to-date',
      'Available',
      'Node Selector',
      'Age',
      'Containers*',
      'Images*',
      'Selector*',
    ],
    row: (o, now) => {
      const st = status(o);
      return [
        name(o),
        num(st.desiredNumberScheduled),
        num(st.currentNumberScheduled),
        num(st.numberReady),
        num(st.updatedNumberScheduled),
        num(st.numberAvailable),
        labelsText(dict(at(template(o), 'nodeSelector'))),
        created(o, now),
        ...containers(template(o)),
        selectorText(spec(o).selector),
      ];
    },
  },
  'apps/controllerrevisions': {
    columns: ['Name', 'Controller', 'Revision', 'Age'],
    row: (o, now) => {
      const owner = dicts(at(o, 'metadata', 'ownerReferences')).find((item) => item.controller === true);
      const group = str(owner?.apiVersion).split('/')[0];
      return [
        name(o),
        owner ? `${str(owner.kind).toLowerCase()}.${group}/${str(owner.name)}` : '<none>',
        num(o.revision),
        created(o, now),
      ];
    },
  },
  'batch/jobs': {
    columns: ['Name', 'Status', 'Completions', 'Duration', 'Age', 'Containers*', 'Images*', 'Selector*'],
    row: jobRow,
  },
  'batch/cronjobs': {
    columns: [
      'Name',
      'Schedule',
      'Timezone',
      'Suspend',
      'Active',
      'Last Schedule',
      'Age',
      'Containers*',
      'Images*',
      'Selector*',
    ],
    row: (o, now) => [
      name(o),
      str(spec(o).schedule),
      orNone(str(spec(o).timeZone)),
      spec(o).suspend === true ? 'True' : 'False',
      dicts(status(o).active).length,
      status(o).lastScheduleTime ? age(status(o).lastScheduleTime, now) : '<none>',
      created(o, now),
      ...containers(at(o, 'spec', 'jobTemplate', 'spec', 'template', 'spec')),
      selectorText(at(o, 'spec', 'jobTemplate', 'spec', 'selector')),
    ],
  },
  'discovery.k8s.io/endpointslices': { columns: ['Name', 'AddressType', 'Ports', 'Endpoints', 'Age'], row: sliceRow },
  'coordination.k8s.io/leases': {
    columns: ['Name', 'Holder', 'Age'],
    row: (o, now) => [name(o), str(spec(o).holderIdentity), created(o, now)],
  },
  'rbac.authorization.k8s.io/roles': { columns: ['Name', 'Created At'], row: (o) => [name(o), createdAt(o)] },
  'rbac.authorization.k8s.io/clusterroles': { columns: ['Name', 'Created At'], row: (o) => [name(o), createdAt(o)] },
  'rbac.authorization.k8s.io/rolebindings': { columns: BINDING, row: bindingRow },
  'rbac.authorization.k8s.io/clusterrolebindings': { columns: BINDING, row: bindingRow },
  'policy/poddisruptionbudgets': {
    columns: ['Name', 'Min Available', 'Max Unavailable', 'Allowed Disruptions', 'Age'],
    row: (o, now) => [
      name(o),
      str(spec(o).minAvailable) || 'N/A',
      str(spec(o).maxUnavailable) || 'N/A',
      num(status(o).disruptionsAllowed),
      created(o, now),
    ],
  },
  'autoscaling/horizontalpodautoscalers': {
    columns: ['Name', 'Reference', 'Targets', 'MinPods', 'MaxPods', 'Replicas', 'Age'],
    row: (o, now) => {
      const target = dict(spec(o).scaleTargetRef);
      const metrics = dicts(spec(o).metrics).map((metric) => {
        const wanted = at(metric, 'resource', 'target', 'averageUtilization');
        return wanted === undefined ? '<unknown>' : `${str(at(metric, 'resource', 'name'))}: <unknown>/${str(wanted)}%`;
      });
      return [
        name(o),
        `${str(target.kind)}/${str(target.name)}`,
        metrics.length ? metrics.join(', ') : '<none>',
        spec(o).minReplicas === undefined ? '<unset>' : str(spec(o).minReplicas),
        num(spec(o).maxReplicas),
        num(status(o).currentReplicas),
        created(o, now),
      ];
    },
  },
  'networking.k8s.io/ingresses': { columns: ['Name', 'Class', 'Hosts', 'Address', 'Ports', 'Age'], row: ingressRow },
  'networking.k8s.io/ingressclasses': {
    columns: ['Name', 'Controller', 'Parameters', 'Age'],
    row: (o, now) => [
      name(o),
      str(spec(o).controller),
      isDict(spec(o).parameters) ? str(dict(spec(o).parameters).kind) : '<none>',
      created(o, now),
    ],
  },
  'networking.k8s.io/networkpolicies': {
    columns: ['Name', 'Pod-Selector', 'Age'],
    row: (o, now) => [name(o), selectorText(spec(o).podSelector), created(o, now)],
  },
  'apiextensions.k8s.io/customresourcedefinitions': {
    columns: ['Name', 'Created At'],
    row: (o) => [name(o), createdAt(o)],
  },
  'admissionregistration.k8s.io/mutatingwebhookconfigurations': {
    columns: ['Name', 'Webhooks', 'Age'],
    row: (o, now) => [name(o), dicts(o.webhooks).length, created(o, now)],
  },
  'admissionregistration.k8s.io/validatingwebhookconfigurations': {
    columns: ['Name', 'Webhooks', 'Age'],
    row: (o, now) => [name(o), dicts(o.webhooks).length, created(o, now)],
  },
  'scheduling.k8s.io/priorityclasses': {
    columns: ['Name', 'Value', 'Global-Default', 'Age', 'PreemptionPolicy'],
    row: (o, now) => [name(o), num(o.value), o.globalDefault === true, created(o, now), str(o.preemptionPolicy)],
  },
  'storage.k8s.io/storageclasses': {
    columns: ['Name', 'Provisioner', 'ReclaimPolicy', 'VolumeBindingMode', 'AllowVolumeExpansion', 'Age'],
    row: (o, now) => [
      name(o),
      str(o.provisioner),
      str(o.reclaimPolicy) || 'Delete',
      str(o.volumeBindingMode) || 'Immediate',
      o.allowVolumeExpansion === true,
      created(o, now),
    ],
  },
};
