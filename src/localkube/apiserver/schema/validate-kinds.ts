// The meaning of built-in kinds: what a schema cannot say and users get wrong. Called by validate.ts once the schema holds.
import { add, show } from './check.ts';
import { child, children, type Draft } from './draft.ts';
import { configKey, dnsLabel, dnsSubdomain, labelKey, labelValue, portName, portNumber } from './names.ts';
import type { FieldError, Json, KindSchema } from './types.ts';
import { validatePodSpec } from './validate-pod.ts';

type Check = (object: Draft, errors: FieldError[]) => void;

/** Adds to `errors`. */
export function validateMeaning(object: Draft, kind: KindSchema, errors: FieldError[]): void {
  CHECKS[`${kind.gvk.group}/${kind.gvk.kind}`]?.(object, errors);
}

/** Bytes of a ConfigMap's or Secret's data. */
const MAX_DATA = 1024 * 1024;

const CHECKS: Readonly<Record<string, Check>> = {
  '/Pod': (object, errors) => validatePodSpec(child(object, 'spec') ?? {}, 'spec', errors),
  '/Service': validateService,
  '/ConfigMap': (object, errors) => validateData(object, ['data', 'binaryData'], errors),
  '/Secret': validateSecret,
  'apps/Deployment': (object, errors) => {
    validateWorkload(object, errors, ['Always']);
    validateRollingUpdate(object, errors);
  },
  'apps/ReplicaSet': (object, errors) => validateWorkload(object, errors, ['Always']),
  'apps/StatefulSet': (object, errors) => validateWorkload(object, errors, ['Always']),
  'apps/DaemonSet': (object, errors) => validateWorkload(object, errors, ['Always']),
  'batch/Job': (object, errors) => validateJob(object, errors),
  'admissionregistration.k8s.io/MutatingWebhookConfiguration': validateWebhooks,
  'admissionregistration.k8s.io/ValidatingWebhookConfiguration': validateWebhooks,
  'rbac.authorization.k8s.io/RoleBinding': validateBinding,
  'rbac.authorization.k8s.io/ClusterRoleBinding': validateBinding,
};

function invalid(errors: FieldError[], field: string, value: unknown, why: string): void {
  add({ errors }, 'FieldValueInvalid', field, `Invalid value: ${show((value ?? null) as Json)}: ${why}`);
}

function validateWorkload(object: Draft, errors: FieldError[], restartPolicies: readonly string[]): void {
  const spec = child(object, 'spec') ?? {};
  nonNegative(spec, ['replicas', 'minReadySeconds', 'revisionHistoryLimit', 'progressDeadlineSeconds'], 'spec', errors);
  const selector = child(spec, 'selector');
  const template = child(spec, 'template') ?? {};
  const labels = child(child(template, 'metadata'), 'labels') ?? {};
  if (selector) {
    validateSelector(selector, 'spec.selector', errors);
    if (isEmptySelector(selector)) {
      invalid(
        errors,
        'spec.selector',
        selector,
        'empty selector is invalid for deployment'.replace('deployment', kindWord(object)),
      );
    } else if (!selectorMatches(selector, labels)) {
      invalid(errors, 'spec.template.metadata.labels', labels, '`selector` does not match template `labels`');
    }
  }
  validateTemplate(template, errors, restartPolicies);
}

function kindWord(object: Draft): string {
  return String(object.kind).toLowerCase();
}

function validateTemplate(template: Draft, errors: FieldError[], restartPolicies: readonly string[]): void {
  const podSpec = child(template, 'spec') ?? {};
  validatePodSpec(podSpec, 'spec.template.spec', errors);
  if (typeof podSpec.restartPolicy === 'string' && !restartPolicies.includes(podSpec.restartPolicy)) {
    const supported = restartPolicies.map((p) => JSON.stringify(p)).join(', ');
    const text = `Unsupported value: ${show(podSpec.restartPolicy)}: supported values: ${supported}`;
    add({ errors }, 'FieldValueNotSupported', 'spec.template.spec.restartPolicy', text);
  }
  const labels = child(child(template, 'metadata'), 'labels');
  for (const [key, value] of Object.entries(labels ?? {})) {
    const why = labelKey(key) ?? (typeof value === 'string' ? labelValue(value) : undefined);
    if (why !== undefined) invalid(errors, 'spec.template.metadata.labels', labelKey(key) ? key : value, why);
  }
}

function validateRollingUpdate(object: Draft, errors: FieldError[]): void {
  const strategy = child(child(object, 'spec'), 'strategy');
  if (!strategy) return;
  const rolling = child(strategy, 'rollingUpdate');
  if (strategy.type === 'Recreate' && rolling) {
    const why = "Forbidden: may not be specified when strategy `type` is 'Recreate'";
    add({ errors }, 'FieldValueForbidden', 'spec.strategy.rollingUpdate', why);
  }
  if (strategy.type !== 'RollingUpdate' || !rolling) return;
  for (const field of ['maxUnavailable', 'maxSurge']) {
    const value = rolling[field];
    const at = `spec.strategy.rollingUpdate.${field}`;
    if (typeof value === 'string' && !/^\d+%$/.test(value)) {
      invalid(
        errors,
        at,
        value,
        "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
      );
    } else if (typeof value === 'number' && value < 0) {
      invalid(errors, at, value, 'must be greater than or equal to 0');
    }
  }
  const zero = (value: unknown) => value === 0 || value === '0%';
  if (zero(rolling.maxUnavailable) && zero(rolling.maxSurge)) {
    invalid(
      errors,
      'spec.strategy.rollingUpdate.maxUnavailable',
      rolling.maxUnavailable,
      'may not be 0 when `maxSurge` is 0',
    );
  }
}

function validateJob(object: Draft, errors: FieldError[]): void {
  const spec = child(object, 'spec') ?? {};
  nonNegative(
    spec,
    ['completions', 'parallelism', 'backoffLimit', 'activeDeadlineSeconds', 'ttlSecondsAfterFinished'],
    'spec',
    errors,
  );
  const template = child(spec, 'template') ?? {};
  const policy = child(template, 'spec')?.restartPolicy;
  if (policy === undefined || policy === 'Always') {
    const text = `Unsupported value: ${show((policy ?? '') as Json)}: supported values: "OnFailure", "Never"`;
    add({ errors }, 'FieldValueNotSupported', 'spec.template.spec.restartPolicy', text);
    validatePodSpec(child(template, 'spec') ?? {}, 'spec.template.spec', errors);
  } else {
    validateTemplate(template, errors, ['OnFailure', 'Never']);
  }
}

function nonNegative(spec: Draft, fields: readonly string[], path: string, errors: FieldError[]): void {
  for (const field of fields) {
    const value = spec[field];
    if (typeof value === 'number' && value < 0)
      invalid(errors, `${path}.${field}`, value, 'must be greater than or equal to 0');
  }
}

function isEmptySelector(selector: Draft): boolean {
  return (
    Object.keys(child(selector, 'matchLabels') ?? {}).length === 0 &&
    children(selector, 'matchExpressions').length === 0
  );
}

function validateSelector(selector: Draft, path: string, errors: FieldError[]): void {
  for (const [key, value] of Object.entries(child(selector, 'matchLabels') ?? {})) {
    const wrongKey = labelKey(key);
    if (wrongKey !== undefined) invalid(errors, `${path}.matchLabels`, key, wrongKey);
    const wrongValue = typeof value === 'string' ? labelValue(value) : undefined;
    if (wrongValue !== undefined) invalid(errors, `${path}.matchLabels`, value, wrongValue);
  }
  for (const [i, expression] of children(selector, 'matchExpressions').entries()) {
    const at = `${path}.matchExpressions[${i}]`;
    const values = Array.isArray(expression.values) ? expression.values.length : 0;
    if (expression.operator === 'In' || expression.operator === 'NotIn') {
      if (values === 0) {
        add(
          { errors },
          'FieldValueRequired',
          `${at}.values`,
          "Required value: must be specified when `operator` is 'In' or 'NotIn'",
        );
      }
    } else if (expression.operator === 'Exists' || expression.operator === 'DoesNotExist') {
      if (values > 0) {
        const why = "Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
        add({ errors }, 'FieldValueForbidden', `${at}.values`, why);
      }
    } else {
      invalid(errors, `${at}.operator`, expression.operator, 'not a valid selector operator');
    }
  }
}

export function selectorMatches(selector: Draft, labels: Draft): boolean {
  for (const [key, value] of Object.entries(child(selector, 'matchLabels') ?? {}))
    if (labels[key] !== value) return false;
  for (const { key, operator, values } of children(selector, 'matchExpressions')) {
    const value = labels[String(key)];
    const listed = Array.isArray(values) && values.includes(value);
    if (operator === 'In' && !(value !== undefined && listed)) return false;
    if (operator === 'NotIn' && listed) return false;
    if (operator === 'Exists' && value === undefined) return false;
    if (operator === 'DoesNotExist' && value !== undefined) return false;
  }
  return true;
}

function validateService(object: Draft, errors: FieldError[]): void {
  const spec = child(object, 'spec') ?? {};
  const ports = children(spec, 'ports');
  const headless = spec.clusterIP === 'None';
  if (ports.length === 0 && !headless && spec.type !== 'ExternalName') {
    add({ errors }, 'FieldValueRequired', 'spec.ports', 'Required value');
  }
  oneOf(spec.type, ['ClusterIP', 'ExternalName', 'LoadBalancer', 'NodePort'], 'spec.type', errors);
  if (spec.type === 'ExternalName') {
    const name = typeof spec.externalName === 'string' ? spec.externalName.replace(/\.$/, '') : '';
    const wrong = dnsSubdomain(name);
    if (wrong !== undefined) invalid(errors, 'spec.externalName', spec.externalName ?? '', wrong);
  }
  const names = new Set<unknown>();
  const numbers = new Set<string>();
  for (const [i, port] of ports.entries()) {
    const at = `spec.ports[${i}]`;
    if (typeof port.name === 'string' && port.name !== '') {
      const wrong = dnsLabel(port.name);
      if (wrong !== undefined) invalid(errors, `${at}.name`, port.name, wrong);
      if (names.has(port.name))
        add({ errors }, 'FieldValueDuplicate', `${at}.name`, `Duplicate value: ${show(port.name)}`);
      names.add(port.name);
    } else if (ports.length > 1) {
      add({ errors }, 'FieldValueRequired', `${at}.name`, 'Required value');
    }
    const wrong = portNumber(Number(port.port));
    if (wrong !== undefined) invalid(errors, `${at}.port`, port.port, wrong);
    const target = port.targetPort;
    const wrongTarget =
      typeof target === 'number' ? portNumber(target) : typeof target === 'string' ? portName(target) : undefined;
    if (wrongTarget !== undefined) invalid(errors, `${at}.targetPort`, target, wrongTarget);
    const id = `${port.protocol}/${port.port}`;
    if (numbers.has(id)) {
      add(
        { errors },
        'FieldValueDuplicate',
        at,
        `Duplicate value: ${show({ port: port.port, protocol: port.protocol } as Json)}`,
      );
    }
    numbers.add(id);
    if (port.nodePort !== undefined && port.nodePort !== 0 && spec.type === 'ClusterIP') {
      add({ errors }, 'FieldValueForbidden', `${at}.nodePort`, "Forbidden: may not be used when `type` is 'ClusterIP'");
    }
  }
  for (const [key, value] of Object.entries(child(spec, 'selector') ?? {})) {
    const why = labelKey(key) ?? (typeof value === 'string' ? labelValue(value) : undefined);
    if (why !== undefined) invalid(errors, 'spec.selector', labelKey(key) ? key : value, why);
  }
}

function oneOf(value: unknown, values: readonly string[], field: string, errors: FieldError[]): void {
  if (value === undefined || values.includes(String(value))) return;
  const supported = values.map((v) => JSON.stringify(v)).join(', ');
  add(
    { errors },
    'FieldValueNotSupported',
    field,
    `Unsupported value: ${show(value as Json)}: supported values: ${supported}`,
  );
}

function validateData(object: Draft, fields: readonly string[], errors: FieldError[]): void {
  let size = 0;
  for (const field of fields) {
    for (const [key, value] of Object.entries(child(object, field) ?? {})) {
      const wrong = configKey(key);
      if (wrong !== undefined) invalid(errors, `${field}[${key}]`, key, wrong);
      size += String(value).length;
    }
  }
  if (size > MAX_DATA * 1.4)
    add({ errors }, 'FieldValueTooLong', fields[0]!, `Too long: may not be more than ${MAX_DATA} bytes`);
}

function validateSecret(object: Draft, errors: FieldError[]): void {
  validateData(object, ['data'], errors);
  const data = child(object, 'data') ?? {};
  const need = (key: string) => {
    if (data[key] === undefined) add({ errors }, 'FieldValueRequired', `data[${key}]`, 'Required value');
  };
  if (object.type === 'kubernetes.io/tls') {
    need('tls.crt');
    need('tls.key');
  } else if (object.type === 'kubernetes.io/dockerconfigjson') need('.dockerconfigjson');
}

function validateWebhooks(object: Draft, errors: FieldError[]): void {
  const names = new Set<unknown>();
  for (const [i, webhook] of children(object, 'webhooks').entries()) {
    const at = `webhooks[${i}]`;
    if (String(webhook.name).split('.').length < 3 || dnsSubdomain(String(webhook.name)) !== undefined) {
      invalid(errors, `${at}.name`, webhook.name, 'should be a domain with at least three segments separated by dots');
    }
    if (names.has(webhook.name))
      add({ errors }, 'FieldValueDuplicate', `${at}.name`, `Duplicate value: ${show(webhook.name as Json)}`);
    names.add(webhook.name);
    const config = child(webhook, 'clientConfig') ?? {};
    if ((config.url === undefined) === (config.service === undefined)) {
      const why = 'Required value: exactly one of url or service is required';
      add({ errors }, 'FieldValueRequired', `${at}.clientConfig`, why);
    }
    const seconds = webhook.timeoutSeconds;
    if (typeof seconds === 'number' && (seconds < 1 || seconds > 30)) {
      invalid(errors, `${at}.timeoutSeconds`, seconds, 'the timeout value must be between 1 and 30 seconds');
    }
    oneOf(webhook.failurePolicy, ['Fail', 'Ignore'], `${at}.failurePolicy`, errors);
    oneOf(webhook.sideEffects, ['None', 'NoneOnDryRun'], `${at}.sideEffects`, errors);
    validateSelector(child(webhook, 'namespaceSelector') ?? {}, `${at}.namespaceSelector`, errors);
    validateSelector(child(webhook, 'objectSelector') ?? {}, `${at}.objectSelector`, errors);
  }
}

function validateBinding(object: Draft, errors: FieldError[]): void {
  const roleRef = child(object, 'roleRef') ?? {};
  const kinds = object.kind === 'RoleBinding' ? ['Role', 'ClusterRole'] : ['ClusterRole'];
  oneOf(roleRef.kind, kinds, 'roleRef.kind', errors);
  for (const [i, subject] of children(object, 'subjects').entries()) {
    oneOf(subject.kind, ['ServiceAccount', 'User', 'Group'], `subjects[${i}].kind`, errors);
    if (subject.kind === 'ServiceAccount' && !subject.namespace) {
      add({ errors }, 'FieldValueRequired', `subjects[${i}].namespace`, 'Required value');
    }
  }
}
