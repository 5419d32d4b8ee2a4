// kubectl's columns for the built-in kinds. A kind that is not here gets NAME and AGE. Called by table.ts.
import { at, type Dict, dict, dicts, isDict, num, str, strings } from '../json.ts';
import { age, firstFew, humanDuration, labelsText, orNone } from './format.ts';
import { podRow } from './pods.ts';

export interface ColumnSet {
  /** `Name`, or `Name*` for a column of -o wide. */
  readonly columns: readonly string[];
  row(object: Dict, now: number): readonly unknown[];
}

const name = (object: Dict): unknown => at(object, 'metadata', 'name');
const created = (object: Dict, now: number): string => age(at(object, 'metadata', 'creationTimestamp'), now);
const spec = (object: Dict): Dict => dict(object.spec);
const status = (object: Dict): Dict => dict(object.status);
const keys = (value: unknown): number => Object.keys(dict(value)).length;

function containers(podSpec: unknown): [string, string] {
  const list = dicts(at(podSpec, 'containers'));
  return [list.map((item) => str(item.name)).join(','), list.map((item) => str(item.image)).join(',')];
}

function selectorText(selector: unknown): string {
  if (!isDict(selector)) return '<none>';
  const terms = Object.entries(dict(selector.matchLabels))
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${key}=${str(value)}`);
  for (const item of dicts(selector.matchExpressions)) {
    const values = strings(item.values).join(',');
    if (item.operator === 'In') terms.push(`${str(item.key)} in (${values})`);
    else if (item.operator === 'NotIn') terms.push(`${str(item.key)} notin (${values})`);
    else terms.push(item.operator === 'Exists' ? str(item.key) : `!${str(item.key)}`);
  }
  return orNone(terms.join(','));
}

const template = (object: Dict): unknown => at(object, 'spec', 'template', 'spec');

function deployment(object: Dict, now: number): unknown[] {
  const st = status(object);
  return [
    name(object),
    `${num(st.readyReplicas)}/${num(spec(object).replicas)}`,
    num(st.updatedReplicas),
    num(st.availableReplicas),
    created(object, now),
    ...containers(template(object)),
    selectorText(spec(object).selector),
  ];
}

function serviceRow(object: Dict, now: number): unknown[] {
  const sp = spec(object);
  const ports = dicts(sp.ports).map((port) => {
    const node = num(port.nodePort) ? `:${num(port.nodePort)}` : '';
    return `${num(port.port)}${node}/${str(port.protocol) || 'TCP'}`;
  });
  return [
    name(object),
    str(sp.type),
    sp.type === 'ExternalName' ? '<none>' : orNone(str(sp.clusterIP)),
    externalIp(object),
    orNone(ports.join(',')),
    created(object, now),
    labelsText(dict(sp.selector)),
  ];
}

function externalIp(object: Dict): string {
  const sp = spec(object);
  const outside = strings(sp.externalIPs);
  if (sp.type === 'ExternalName') return str(sp.externalName);
  if (sp.type !== 'LoadBalancer') return orNone(outside.join(','));
  const ingress = dicts(at(object, 'status', 'loadBalancer', 'ingress')).map(
    (item) => str(item.ip) || str(item.hostname),
  );
  const all = [...ingress, ...outside];
  return all.length ? all.join(',') : '<pending>';
}

function nodeRow(object: Dict, now: number): unknown[] {
  const labels = dict(at(object, 'metadata', 'labels'));
  const roles = Object.keys(labels)
    .filter((key) => key.startsWith('node-role.kubernetes.io/'))
    .map((key) => key.slice('node-role.kubernetes.io/'.length))
    .sort();
  const ready = dicts(status(object).conditions).find((item) => item.type === 'Ready');
  const state = ready
    ? ready.status === 'True'
      ? 'Ready'
      : ready.status === 'Unknown'
        ? 'Unknown'
        : 'NotReady'
    : 'Unknown';
  const info = dict(status(object).nodeInfo);
  const address = (type: string): string =>
    orNone(str(dicts(status(object).addresses).find((item) => item.type === type)?.address));
  return [
    name(object),
    spec(object).unschedulable === true ? `${state},SchedulingDisabled` : state,
    orNone(roles.join(',')),
    created(object, now),
    str(info.kubeletVersion),
    address('InternalIP'),
    address('ExternalIP'),
    str(info.osImage) || '<unknown>',
    str(info.kernelVersion) || '<unknown>',
    str(info.containerRuntimeVersion) || '<unknown>',
  ];
}

function endpointsRow(object: Dict, now: number): unknown[] {
  const list: string[] = [];
  for (const subset of dicts(object.subsets))
    for (const address of dicts(subset.addresses)) {
      const ports = dicts(subset.ports);
      if (ports.length === 0) list.push(str(address.ip));
      for (const port of ports) list.push(`${str(address.ip)}:${num(port.port)}`);
    }
  return [name(object), firstFew(list), created(object, now)];
}

function sliceRow(object: Dict, now: number): unknown[] {
  const ports = Array.isArray(object.ports)
    ? dicts(object.ports).map((port) => (port.port === undefined ? '*' : String(port.port)))
    : undefined;
  return [
    name(object),
    str(object.addressType),
    ports === undefined || ports.length === 0 ? '<unset>' : firstFew(ports),
    dicts(object.endpoints).length === 0
      ? '<unset>'
      : firstFew(dicts(object.endpoints).flatMap((item) => strings(item.addresses))),
    created(object, now),
  ];
}

function eventRow(object: Dict, now: number): unknown[] {
  const newer = object.apiVersion !== 'v1';
  const about = dict(newer ? object.regarding : object.involvedObject);
  const series = dict(object.series);
  const first = str(newer ? object.deprecatedFirstTimestamp : object.firstTimestamp) || str(object.eventTime);
  const last =
    str(series.lastObservedTime) || str(newer ? object.deprecatedLastTimestamp : object.lastTimestamp) || first;
  const count = num(series.count) || num(newer ? object.deprecatedCount : object.count) || 1;
  const source = dict(newer ? object.deprecatedSource : object.source);
  const seen = age(last, now);
  const component = [
    str(source.component) || str(newer ? object.reportingController : object.reportingComponent),
    str(source.host),
  ];
  return [
    count > 1 ? `${seen} (x${count} over ${age(first, now)})` : seen,
    str(object.type),
    str(object.reason),
    `${str(about.kind).toLowerCase()}/${str(about.name)}`,
    str(about.fieldPath),
    component.filter((item) => item !== '').join(', '),
    str(newer ? object.note : object.message).trim(),
    age(first, now),
    count,
    name(object),
  ];
}

function jobRow(object: Dict, now: number): unknown[] {
  const sp = spec(object);
  const st = status(object);
  const done = num(st.succeeded);
  const wanted =
    sp.completions !== undefined
      ? `${num(sp.completions)}`
      : num(sp.parallelism) > 1
        ? `1 of ${num(sp.parallelism)}`
        : '1';
  const condition = (type: string): boolean =>
    dicts(st.conditions).some((item) => item.type === type && item.status === 'True');
  const state = condition('Complete')
    ? 'Complete'
    : condition('Failed')
      ? 'Failed'
      : at(object, 'metadata', 'deletionTimestamp') !== undefined
        ? 'Terminating'
        : condition('Suspended')
          ? 'Suspended'
          : 'Running';
  const start = str(st.startTime);
  const end = str(st.completionTime);
  return [
    name(object),
    state,
    `${done}/${wanted}`,
    start ? humanDuration((end ? Date.parse(end) : now) - Date.parse(start)) : '',
    created(object, now),
    ...containers(template(object)),
    selectorText(sp.selector),
  ];
}

function ingressRow(object: Dict, now: number): unknown[] {
  const sp = spec(object);
  const hosts = [...new Set(dicts(sp.rules).map((rule) => str(rule.host) || '*'))];
  const addresses = dicts(at(object, 'status', 'loadBalancer', 'ingress')).map(
    (item) => str(item.ip) || str(item.hostname),
  );
  return [
    name(object),
    orNone(str(sp.ingressClassName)),
    hosts.length ? firstFew(hosts) : '*',
    addresses.join(','),
    Array.isArray(sp.tls) && sp.tls.length ? '80, 443' : '80',
    created(object, now),
  ];
}

function bindingRow(object: Dict, now: number): unknown[] {
  const subjects = (kind: string): string =>
    dicts(object.subjects)
      .filter((item) => item.kind === kind)
      .map((item) => (kind === 'ServiceAccount' ? `${str(item.namespace)}/${str(item.name)}` : str(item.name)))
      .join(', ');
  const ref = dict(object.roleRef);
  return [
    name(object),
    `${str(ref.kind)}/${str(ref.name)}`,
    created(object, now),
    subjects('User'),
    subjects('Group'),
    subjects('ServiceAccount'),
  ];
}

const BINDING = ['Name', 'Role', 'Age', 'Users*', 'Groups*', 'ServiceAccounts*'];
const createdAt = (object: Dict): unknown => at(object, 'metadata', 'creationTimestamp');

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
