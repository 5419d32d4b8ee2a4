// Label and field selectors: text → predicate. Called by list, watch, deletecollection and webhook matching.
import { at, type Dict, dict, dicts, str, strings } from './json.ts';
import { badRequest } from './status.ts';

export type LabelPredicate = (labels: Readonly<Record<string, unknown>>) => boolean;

const NAME = '[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?';
const KEY = new RegExp(`^(${NAME}/)?${NAME}$`);
const VALUE = new RegExp(`^(${NAME})?$`);
const SET = /^(\S+)\s+(in|notin)\s*\(([^)]*)\)$/;
const EQUALITY = /^([^=!<>\s]+)\s*(==|=|!=|>|<)\s*(.*)$/;

/** Throws 400 on a selector that cannot be read. */
export function parseLabelSelector(text: string): LabelPredicate {
  const terms = splitTerms(text).map(parseTerm);
  return (labels) => terms.every((term) => term(labels));
}

function parseTerm(term: string): LabelPredicate {
  const set = SET.exec(term) ?? /^(\S+)\s+(in|notin)\s*(\(\s*\))$/.exec(term);
  if (set) {
    const key = checkKey(set[1] ?? '', term);
    const values = new Set((set[3] ?? '').split(',').map((value) => checkValue(value.trim(), term)));
    return set[2] === 'in'
      ? (labels) => key in labels && values.has(str(labels[key]))
      : (labels) => !(key in labels) || !values.has(str(labels[key]));
  }
  const equality = EQUALITY.exec(term);
  if (equality) {
    const key = checkKey(equality[1] ?? '', term);
    const value = checkValue((equality[3] ?? '').trim(), term);
    if (equality[2] === '!=') return (labels) => !(key in labels) || str(labels[key]) !== value;
    if (equality[2] === '>') return (labels) => key in labels && Number(labels[key]) > Number(value);
    if (equality[2] === '<') return (labels) => key in labels && Number(labels[key]) < Number(value);
    return (labels) => key in labels && str(labels[key]) === value;
  }
  if (term.startsWith('!')) {
    const key = checkKey(term.slice(1).trim(), term);
    return (labels) => !(key in labels);
  }
  const key = checkKey(term, term);
  return (labels) => key in labels;
}

function splitTerms(text: string): string[] {
  const out: string[] = [];
  let depth = 0;
  let current = '';
  for (const char of text) {
    if (char === '(') depth++;
    if (char === ')') depth--;
    if (char === ',' && depth === 0) {
      out.push(current);
      current = '';
    } else current += char;
  }
  out.push(current);
  return out.map((term) => term.trim()).filter((term) => term !== '');
}

function checkKey(key: string, term: string): string {
  if (!KEY.test(key))
    throw badRequest(
      `unable to parse requirement: <nil>: Invalid value: "${key}": name part of "${term}" must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character`,
    );
  return key;
}

function checkValue(value: string, term: string): string {
  if (!VALUE.test(value))
    throw badRequest(
      `unable to parse requirement: values[0][${term}]: Invalid value: "${value}": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character`,
    );
  return value;
}

/** The object form (matchLabels, matchExpressions); an empty one matches everything. */
export function selectorPredicate(selector: unknown): LabelPredicate {
  const terms: LabelPredicate[] = [];
  for (const [key, value] of Object.entries(dict(at(selector, 'matchLabels'))))
    terms.push((labels) => key in labels && str(labels[key]) === str(value));
  for (const expression of dicts(at(selector, 'matchExpressions'))) {
    const key = str(expression.key);
    const values = new Set(strings(expression.values));
    const operator = str(expression.operator);
    if (operator === 'In') terms.push((labels) => key in labels && values.has(str(labels[key])));
    else if (operator === 'NotIn') terms.push((labels) => !(key in labels) || !values.has(str(labels[key])));
    else if (operator === 'Exists') terms.push((labels) => key in labels);
    else if (operator === 'DoesNotExist') terms.push((labels) => !(key in labels));
    else terms.push(() => false);
  }
  return (labels) => terms.every((term) => term(labels));
}

/** Field labels each collection knows beyond metadata.name and metadata.namespace. */
const FIELDS: Readonly<Record<string, readonly string[]>> = {
  '/pods': [
    'spec.nodeName',
    'spec.restartPolicy',
    'spec.schedulerName',
    'spec.serviceAccountName',
    'spec.hostNetwork',
    'status.phase',
    'status.podIP',
    'status.nominatedNodeName',
  ],
  '/events': [
    'involvedObject.kind',
    'involvedObject.namespace',
    'involvedObject.name',
    'involvedObject.uid',
    'involvedObject.apiVersion',
    'involvedObject.resourceVersion',
    'involvedObject.fieldPath',
    'reason',
    'reportingComponent',
    'source',
    'type',
  ],
  '/namespaces': ['status.phase', 'name'],
  '/nodes': ['spec.unschedulable'],
  '/secrets': ['type'],
  '/services': ['spec.clusterIP', 'spec.type'],
  '/replicationcontrollers': ['status.replicas'],
  'apps/replicasets': ['status.replicas'],
  'batch/jobs': ['status.successful'],
};

const BOOLEAN_FIELDS: ReadonlySet<string> = new Set(['spec.unschedulable', 'spec.hostNetwork']);

/** Throws 400 on a field label the collection does not know. `extra`: selectable fields of a CRD. */
export function parseFieldSelector(
  text: string,
  collection: string,
  extra: readonly string[] = [],
): (object: Dict) => boolean {
  const known = ['metadata.name', 'metadata.namespace', ...(FIELDS[collection] ?? []), ...extra];
  const terms = text
    .split(/(?<!\\),/)
    .map((term) => term.trim())
    .filter((term) => term !== '')
    .map((term) => {
      const match = /^([^=!]+)(==|=|!=)(.*)$/.exec(term);
      if (!match) throw badRequest(`invalid field selector "${term}"; can't understand '${term}'`);
      const field = (match[1] ?? '').trim();
      if (!known.includes(field)) throw badRequest(`field label not supported: ${field}`);
      const wanted = (match[3] ?? '').trim().replace(/\\([\\,=])/g, '$1');
      const negative = match[2] === '!=';
      return (object: Dict) => (fieldValue(object, field) === wanted) !== negative;
    });
  return (object) => terms.every((term) => term(object));
}

function fieldValue(object: Dict, field: string): string {
  if (field === 'source') return str(at(object, 'source', 'component')) || str(object.reportingComponent);
  if (field === 'name') return str(at(object, 'metadata', 'name'));
  const value = at(object, ...field.replace(/^\./, '').split('.'));
  if (BOOLEAN_FIELDS.has(field)) return String(value === true);
  return str(value);
}
