// Pods and pod templates: names, ports, volumes, probes, environment. Called by validate-kinds.ts.
import { add, show } from './check.ts';
import { child, children, type Draft } from './draft.ts';
import { dnsLabel, dnsSubdomain, envName, portName, portNumber } from './names.ts';
import { refuseUnsupported } from './pod-support.ts';
import type { FieldError, Json } from './types.ts';

const QUANTITY = /^[+-]?(\d+(\.\d*)?|\.\d+)(([KMGTPE]i)|[numkMGTPE]|([eE][+-]?\d+))?$/;

function invalid(errors: FieldError[], field: string, value: unknown, why: string): void {
  add({ errors }, 'FieldValueInvalid', field, `Invalid value: ${show((value ?? null) as Json)}: ${why}`);
}

function duplicate(errors: FieldError[], field: string, value: unknown): void {
  add({ errors }, 'FieldValueDuplicate', field, `Duplicate value: ${show(value as Json)}`);
}

function required(errors: FieldError[], field: string, why?: string): void {
  add({ errors }, 'FieldValueRequired', field, why === undefined ? 'Required value' : `Required value: ${why}`);
}

/** Adds to `errors`; `path` is that of the spec. */
export function validatePodSpec(spec: Draft, path: string, errors: FieldError[]): void {
  const containers = children(spec, 'containers');
  if (containers.length === 0) required(errors, `${path}.containers`);
  refuseUnsupported(spec, path, errors);
  const volumes = validateVolumes(spec, `${path}.volumes`, errors);
  const names = new Set<unknown>();
  for (const list of ['initContainers', 'containers', 'ephemeralContainers']) {
    for (const [i, container] of children(spec, list).entries()) {
      validateContainer(container, `${path}.${list}[${i}]`, list, names, volumes, errors);
    }
  }
  if (typeof spec.serviceAccountName === 'string' && spec.serviceAccountName !== '') {
    const wrong = dnsSubdomain(spec.serviceAccountName);
    if (wrong !== undefined) invalid(errors, `${path}.serviceAccountName`, spec.serviceAccountName, wrong);
  }
  for (const field of ['hostname', 'subdomain']) {
    const value = spec[field];
    const wrong = typeof value === 'string' && value !== '' ? dnsLabel(value) : undefined;
    if (wrong !== undefined) invalid(errors, `${path}.${field}`, value, wrong);
  }
  const { activeDeadlineSeconds, terminationGracePeriodSeconds } = spec;
  if (typeof activeDeadlineSeconds === 'number' && activeDeadlineSeconds < 1) {
    invalid(
      errors,
      `${path}.activeDeadlineSeconds`,
      activeDeadlineSeconds,
      'must be between 1 and 2147483647, inclusive',
    );
  }
  if (typeof terminationGracePeriodSeconds === 'number' && terminationGracePeriodSeconds < 0) {
    invalid(
      errors,
      `${path}.terminationGracePeriodSeconds`,
      terminationGracePeriodSeconds,
      'must be greater than or equal to 0',
    );
  }
}

function validateVolumes(spec: Draft, path: string, errors: FieldError[]): ReadonlySet<unknown> {
  const names = new Set<unknown>();
  for (const [i, volume] of children(spec, 'volumes').entries()) {
    const wrong = dnsLabel(String(volume.name ?? ''));
    if (!volume.name) required(errors, `${path}[${i}].name`);
    else if (wrong !== undefined) invalid(errors, `${path}[${i}].name`, volume.name, wrong);
    if (names.has(volume.name)) duplicate(errors, `${path}[${i}].name`, volume.name);
    names.add(volume.name);
    const sources = Object.keys(volume).filter((key) => key !== 'name' && volume[key] !== undefined);
    for (const extra of sources.slice(1)) {
      add(
        { errors },
        'FieldValueForbidden',
        `${path}[${i}].${extra}`,
        'Forbidden: may not specify more than 1 volume type',
      );
    }
    if (child(volume, 'secret') && !child(volume, 'secret')!.secretName)
      required(errors, `${path}[${i}].secret.secretName`);
    if (child(volume, 'configMap') && !child(volume, 'configMap')!.name)
      required(errors, `${path}[${i}].configMap.name`);
  }
  return names;
}

function validateContainer(
  container: Draft,
  path: string,
  list: string,
  names: Set<unknown>,
  volumes: ReadonlySet<unknown>,
  errors: FieldError[],
): void {
  if (!container.name) required(errors, `${path}.name`);
  else {
    const wrong = dnsLabel(String(container.name));
    if (wrong !== undefined) invalid(errors, `${path}.name`, container.name, wrong);
    if (names.has(container.name)) duplicate(errors, `${path}.name`, container.name);
    names.add(container.name);
  }
  if (!container.image) required(errors, `${path}.image`);
  else if (String(container.image).trim() !== container.image) {
    invalid(errors, `${path}.image`, container.image, 'must not have leading or trailing whitespace');
  }
  validatePorts(container, path, errors);
  for (const [i, variable] of children(container, 'env').entries()) {
    const wrong = variable.name ? envName(String(variable.name)) : undefined;
    if (!variable.name) required(errors, `${path}.env[${i}].name`);
    else if (wrong !== undefined) invalid(errors, `${path}.env[${i}].name`, variable.name, wrong);
    if (variable.valueFrom !== undefined && typeof variable.value === 'string' && variable.value !== '') {
      invalid(errors, `${path}.env[${i}].valueFrom`, '', 'may not be specified when `value` is not empty');
    }
  }
  validateMounts(container, path, volumes, errors);
  validateProbes(container, path, list, errors);
  validateResources(container, path, errors);
}

function validatePorts(container: Draft, path: string, errors: FieldError[]): void {
  const names = new Set<unknown>();
  for (const [i, port] of children(container, 'ports').entries()) {
    const at = `${path}.ports[${i}]`;
    const wrong = portNumber(Number(port.containerPort));
    if (wrong !== undefined) invalid(errors, `${at}.containerPort`, port.containerPort, wrong);
    if (typeof port.hostPort === 'number' && port.hostPort !== 0 && portNumber(port.hostPort) !== undefined) {
      invalid(errors, `${at}.hostPort`, port.hostPort, portNumber(port.hostPort)!);
    }
    if (typeof port.name === 'string' && port.name !== '') {
      const wrongName = portName(port.name);
      if (wrongName !== undefined) invalid(errors, `${at}.name`, port.name, wrongName);
      if (names.has(port.name)) duplicate(errors, `${at}.name`, port.name);
      names.add(port.name);
    }
  }
}

function validateMounts(container: Draft, path: string, volumes: ReadonlySet<unknown>, errors: FieldError[]): void {
  const paths = new Set<unknown>();
  for (const [i, mount] of children(container, 'volumeMounts').entries()) {
    const at = `${path}.volumeMounts[${i}]`;
    if (!volumes.has(mount.name))
      add({ errors }, 'FieldValueInvalid', `${at}.name`, `Not found: ${show(mount.name as Json)}`);
    if (paths.has(mount.mountPath)) invalid(errors, `${at}.mountPath`, mount.mountPath, 'must be unique');
    paths.add(mount.mountPath);
  }
}

const HANDLERS = ['exec', 'httpGet', 'tcpSocket', 'grpc'];

function validateProbes(container: Draft, path: string, list: string, errors: FieldError[]): void {
  for (const name of ['livenessProbe', 'readinessProbe', 'startupProbe']) {
    const probe = child(container, name);
    if (!probe) continue;
    const at = `${path}.${name}`;
    if (list === 'initContainers' && container.restartPolicy !== 'Always') {
      add(
        { errors },
        'FieldValueForbidden',
        at,
        'Forbidden: may not be set for init containers without restartPolicy=Always',
      );
    }
    const handlers = HANDLERS.filter((handler) => probe[handler] !== undefined);
    if (handlers.length === 0) required(errors, at, 'must specify a handler type');
    for (const extra of handlers.slice(1)) {
      add({ errors }, 'FieldValueForbidden', `${at}.${extra}`, 'Forbidden: may not specify more than 1 handler type');
    }
    for (const handler of ['httpGet', 'tcpSocket', 'grpc']) {
      const port = child(probe, handler)?.port;
      const wrong = typeof port === 'number' ? portNumber(port) : typeof port === 'string' ? portName(port) : undefined;
      if (wrong !== undefined) invalid(errors, `${at}.${handler}.port`, port, wrong);
    }
    for (const field of [
      'initialDelaySeconds',
      'timeoutSeconds',
      'periodSeconds',
      'successThreshold',
      'failureThreshold',
    ]) {
      const value = probe[field];
      if (typeof value === 'number' && value < 0)
        invalid(errors, `${at}.${field}`, value, 'must be greater than or equal to 0');
    }
    if (name !== 'readinessProbe' && typeof probe.successThreshold === 'number' && probe.successThreshold > 1) {
      invalid(errors, `${at}.successThreshold`, probe.successThreshold, 'must be 1');
    }
  }
}

function validateResources(container: Draft, path: string, errors: FieldError[]): void {
  const resources = child(container, 'resources');
  for (const field of ['limits', 'requests']) {
    for (const [name, value] of Object.entries(child(resources, field) ?? {})) {
      if (!QUANTITY.test(String(value))) {
        const why = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
        invalid(errors, `${path}.resources.${field}[${name}]`, value, why);
      } else if (String(value).startsWith('-')) {
        invalid(errors, `${path}.resources.${field}[${name}]`, value, 'must be greater than or equal to 0');
      }
    }
  }
}
