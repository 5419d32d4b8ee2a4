// Rows of kinds whose cells take more than reading a field, and the cells many kinds share. Called by columns.ts.
import { at, type Dict, dict, dicts, isDict, num, str, strings } from '../json.ts';
import { age, firstFew, humanDuration, labelsText, orNone } from './format.ts';

export const name = (object: Dict): unknown => at(object, 'metadata', 'name');
export const created = (object: Dict, now: number): string => age(at(object, 'metadata', 'creationTimestamp'), now);
export const spec = (object: Dict): Dict => dict(object.spec);
export const status = (object: Dict): Dict => dict(object.status);
export const keys = (value: unknown): number => Object.keys(dict(value)).length;

export function containers(podSpec: unknown): [string, string] {
  const list = dicts(at(podSpec, 'containers'));
  return [list.map((item) => str(item.name)).join(','), list.map((item) => str(item.image)).join(',')];
}

export function selectorText(selector: unknown): string {
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

export const template = (object: Dict): unknown => at(object, 'spec', 'template', 'spec');

export function deployment(object: Dict, now: number): unknown[] {
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

export function serviceRow(object: Dict, now: number): unknown[] {
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

export function externalIp(object: Dict): string {
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

export function nodeRow(object: Dict, now: number): unknown[] {
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

export function endpointsRow(object: Dict, now: number): unknown[] {
  const list: string[] = [];
  for (const subset of dicts(object.subsets))
    for (const address of dicts(subset.addresses)) {
      const ports = dicts(subset.ports);
      if (ports.length === 0) list.push(str(address.ip));
      for (const port of ports) list.push(`${str(address.ip)}:${num(port.port)}`);
    }
  return [name(object), firstFew(list), created(object, now)];
}

export function sliceRow(object: Dict, now: number): unknown[] {
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

export function eventRow(object: Dict, now: number): unknown[] {
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

export function jobRow(object: Dict, now: number): unknown[] {
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

export function ingressRow(object: Dict, now: number): unknown[] {
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

export function bindingRow(object: Dict, now: number): unknown[] {
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

export const createdAt = (object: Dict): unknown => at(object, 'metadata', 'creationTimestamp');
