// Label and field selectors: the string form of list requests and the LabelSelector form of objects.
// Called by the API server, controllers, the control plane's workload selection, and the fake client.
import type { Diagnostic, Parsed } from '../runtime/diagnostics.ts';
import type { KubeObject } from './types.ts';

export interface LabelSelectorRequirement {
  readonly key: string;
  readonly operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';
  readonly values?: readonly string[];
}

/** All of it must match; the empty selector matches everything. */
export interface LabelSelector {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly LabelSelectorRequirement[];
}

export interface Requirement {
  readonly key: string;
  readonly operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist' | 'Gt' | 'Lt';
  readonly values: readonly string[];
}

/** Requirements joined by AND; none = matches everything. */
export type Requirements = readonly Requirement[];

export interface FieldRequirement {
  /** Dotted: `metadata.name`, `spec.nodeName`. */
  readonly path: string;
  readonly operator: '=' | '!=';
  readonly value: string;
}

const MAX_SELECTOR_CHARS = 16_384;
const MAX_REQUIREMENTS = 256;
const NAME = /^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const DNS_SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

type Labels = Readonly<Record<string, string>> | undefined;

export function isLabelKey(key: string): boolean {
  const slash = key.indexOf('/');
  if (slash < 0) return NAME.test(key);
  const prefix = key.slice(0, slash);
  return prefix.length <= 253 && DNS_SUBDOMAIN.test(prefix) && NAME.test(key.slice(slash + 1));
}

export function isLabelValue(value: string): boolean {
  return value === '' || NAME.test(value);
}

/** Parses `app=web,tier in (a, b),!old`. */
export function parseLabelSelector(text: string): Parsed<Requirements> {
  const invalid = (message: string): Parsed<Requirements> => ({
    kind: 'invalid',
    diagnostics: [{ path: 'labelSelector', code: 'bad-selector', message }],
  });
  if (text.length > MAX_SELECTOR_CHARS) return invalid(`longer than ${MAX_SELECTOR_CHARS} characters`);
  const out: Requirement[] = [];
  for (const part of splitOutsideParentheses(text)) {
    const source = part.trim();
    if (source === '') {
      if (text.trim() === '') continue;
      return invalid(`empty requirement in "${text}"`);
    }
    const requirement = parseRequirement(source);
    if (typeof requirement === 'string') return invalid(requirement);
    if (out.length === MAX_REQUIREMENTS) return invalid(`more than ${MAX_REQUIREMENTS} requirements`);
    out.push(requirement);
  }
  return { kind: 'ok', value: out };
}

function splitOutsideParentheses(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === '(') depth += 1;
    else if (c === ')') depth -= 1;
    else if (c === ',' && depth === 0) {
      parts.push(text.slice(start, i));
      start = i + 1;
    }
  }
  parts.push(text.slice(start));
  return parts;
}

/** The requirement, or what is wrong with it. */
function parseRequirement(source: string): Requirement | string {
  const absent = /^!\s*(\S+)$/.exec(source);
  if (absent) return checked(absent[1]!, 'DoesNotExist', []);
  const set = /^(\S+)\s+(in|notin)\s*\(([^()]*)\)$/.exec(source);
  if (set) {
    const values = set[3]!.split(',').map((v) => v.trim());
    return checked(set[1]!, set[2] === 'in' ? 'In' : 'NotIn', values);
  }
  const compare = /^([^\s=!<>]+)\s*(==|=|!=|>|<)\s*(\S*)$/.exec(source);
  if (compare) {
    const operator = compare[2] === '!=' ? 'NotIn' : compare[2] === '>' ? 'Gt' : compare[2] === '<' ? 'Lt' : 'In';
    return checked(compare[1]!, operator, [compare[3]!]);
  }
  if (/^\S+$/.test(source)) return checked(source, 'Exists', []);
  return `"${source}" is not a label requirement such as key=value, key in (a,b) or !key`;
}

function checked(key: string, operator: Requirement['operator'], values: readonly string[]): Requirement | string {
  if (!isLabelKey(key)) return `"${key}" is not a label key`;
  if (operator === 'Gt' || operator === 'Lt') {
    if (!/^-?\d+$/.test(values[0] ?? '')) return `"${values[0]}" must be an integer after > or <`;
    return { key, operator, values };
  }
  const bad = values.find((v) => !isLabelValue(v));
  return bad === undefined ? { key, operator, values } : `"${bad}" is not a label value`;
}

/** The LabelSelector form as requirements. */
export function compileLabelSelector(selector: LabelSelector): Parsed<Requirements> {
  const diagnostics: Diagnostic[] = [];
  const out: Requirement[] = [];
  for (const [key, value] of Object.entries(selector.matchLabels ?? {}))
    out.push({ key, operator: 'In', values: [value] });
  for (const [i, e] of (selector.matchExpressions ?? []).entries()) {
    const path = `matchExpressions[${i}]`;
    const values = e.values ?? [];
    const set = e.operator === 'In' || e.operator === 'NotIn';
    if (!set && e.operator !== 'Exists' && e.operator !== 'DoesNotExist')
      diagnostics.push({
        path: `${path}.operator`,
        code: 'unknown-operator',
        message: `"${e.operator}" must be In, NotIn, Exists or DoesNotExist`,
      });
    else if (set && values.length === 0)
      diagnostics.push({
        path: `${path}.values`,
        code: 'missing-values',
        message: `must not be empty for ${e.operator}`,
      });
    else if (!set && values.length > 0)
      diagnostics.push({ path: `${path}.values`, code: 'extra-values', message: `must be empty for ${e.operator}` });
    else out.push({ key: e.key, operator: e.operator, values });
  }
  return diagnostics.length > 0 ? { kind: 'invalid', diagnostics } : { kind: 'ok', value: out };
}

export function matchesRequirements(requirements: Requirements, labels: Labels): boolean {
  return requirements.every((r) => matchesOne(r, labels && Object.hasOwn(labels, r.key) ? labels[r.key] : undefined));
}

function matchesOne(r: Requirement, value: string | undefined): boolean {
  switch (r.operator) {
    case 'In':
      return value !== undefined && r.values.includes(value);
    case 'NotIn':
      return value === undefined || !r.values.includes(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
    case 'Gt':
    case 'Lt': {
      if (value === undefined || !/^-?\d+$/.test(value)) return false;
      const difference = Number(value) - Number(r.values[0]);
      return r.operator === 'Gt' ? difference > 0 : difference < 0;
    }
  }
}

/** False for a selector that cannot be understood: selecting nothing is the safe side. */
export function matchesLabelSelector(selector: LabelSelector, labels: Labels): boolean {
  const compiled = compileLabelSelector(selector);
  return compiled.kind === 'ok' && matchesRequirements(compiled.value, labels);
}

/** True when every pair of `wanted` is in `labels`; the selector of a Service. */
export function hasLabels(wanted: Readonly<Record<string, string>>, labels: Labels): boolean {
  for (const key in wanted) if (labels?.[key] !== wanted[key]) return false;
  return true;
}

/** The string form of a LabelSelector, as `scale` and `kubectl` show it. */
export function formatLabelSelector(selector: LabelSelector): string {
  const parts = Object.entries(selector.matchLabels ?? {}).map(([k, v]) => `${k}=${v}`);
  for (const e of selector.matchExpressions ?? []) {
    if (e.operator === 'Exists') parts.push(e.key);
    else if (e.operator === 'DoesNotExist') parts.push(`!${e.key}`);
    else parts.push(`${e.key} ${e.operator === 'In' ? 'in' : 'notin'} (${(e.values ?? []).join(',')})`);
  }
  return parts.join(',');
}

/** Parses `metadata.name=a,status.phase!=Running`. */
export function parseFieldSelector(text: string): Parsed<readonly FieldRequirement[]> {
  const out: FieldRequirement[] = [];
  const invalid = (message: string): Parsed<readonly FieldRequirement[]> => ({
    kind: 'invalid',
    diagnostics: [{ path: 'fieldSelector', code: 'bad-selector', message }],
  });
  if (text.length > MAX_SELECTOR_CHARS) return invalid(`longer than ${MAX_SELECTOR_CHARS} characters`);
  for (const part of text.split(',')) {
    if (part.trim() === '') continue;
    const m = /^\s*([A-Za-z0-9_.\-[\]/]+)\s*(==|=|!=)\s*(.*?)\s*$/.exec(part);
    if (!m) return invalid(`"${part}" is not a field requirement such as metadata.name=value`);
    if (out.length === MAX_REQUIREMENTS) return invalid(`more than ${MAX_REQUIREMENTS} requirements`);
    out.push({ path: m[1]!, operator: m[2] === '!=' ? '!=' : '=', value: m[3]! });
  }
  return { kind: 'ok', value: out };
}

/** An absent field counts as the empty string. */
export function matchesFields(requirements: readonly FieldRequirement[], object: KubeObject): boolean {
  return requirements.every((r) => (fieldText(object, r.path) === r.value) === (r.operator === '='));
}

function fieldText(object: unknown, path: string): string {
  let at: unknown = object;
  for (const step of path.split('.')) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, step)) return '';
    at = (at as Readonly<Record<string, unknown>>)[step];
  }
  return at === undefined || at === null || typeof at === 'object' ? '' : String(at);
}
