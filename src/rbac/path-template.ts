// Path templates: `/a/*/b/**`. `*` (or `{name}`) is one segment, `**` (or `{name=**}`) any number of them; a template
// matches the whole path. Rules of envoy.extensions.path.match.uri_template, which Istio's `{*}` and `{**}` become;
// called by compile.ts.
import { ConfigError } from '../base/envoy-api/fields.ts';
import { compileRegex } from '../base/envoy-api/matchers.ts';

/** Envoy's bound on variables in one template. */
const MAX_VARIABLES = 5;
const MAX_OPERATORS = 32;
const LITERAL = "[A-Za-z0-9\\-._~%!$&'()+,;:@=]";
const SEGMENT = `${LITERAL}+`;
const REST = `${LITERAL}*(?:/${LITERAL}*)*`;
const LITERAL_ONLY = new RegExp(`^${LITERAL}*$`);
const NAME = /^[A-Za-z][A-Za-z0-9_]{0,15}$/;

export interface PathTemplate {
  /** Every path that matches starts with this. */
  readonly prefix: string;
  test(path: string): boolean;
}

export function compileTemplate(template: string, path: string): PathTemplate {
  const fail = (why: string): never => {
    throw new ConfigError(path, `Invalid path template '${template}': ${why}`);
  };
  if (!template.startsWith('/')) fail('it must start with /');
  let regex = '';
  let operators = 0;
  let restSeen = false;
  const names = new Set<string>();
  for (const segment of splitSegments(template.slice(1))) {
    const parsed = readSegment(segment, names) ?? fail(`segment '${segment}' is neither a literal nor an operator`);
    if (restSeen && parsed.rest + parsed.single > 0) fail('** must be the last operator');
    operators += parsed.rest + parsed.single;
    if (parsed.rest > 0) restSeen = true;
    regex += `/${parsed.regex}`;
  }
  if (operators > MAX_OPERATORS || names.size > MAX_VARIABLES) fail('too many operators');
  const compiled = compileRegex(regex, path);
  const brace = template.search(/[{*]/);
  return { prefix: brace < 0 ? template : template.slice(0, brace), test: (text) => compiled.testExact(text) };
}

/** Splits at `/` outside braces. */
function splitSegments(text: string): string[] {
  const out: string[] = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '{') depth += 1;
    else if (text[i] === '}') depth -= 1;
    else if (text[i] === '/' && depth === 0) {
      out.push(text.slice(start, i));
      start = i + 1;
    }
  }
  out.push(text.slice(start));
  return out;
}

interface Segment {
  readonly regex: string;
  readonly single: number;
  readonly rest: number;
}

function readSegment(segment: string, names: Set<string>): Segment | undefined {
  if (segment === '*') return { regex: SEGMENT, single: 1, rest: 0 };
  if (segment === '**') return { regex: REST, single: 0, rest: 1 };
  if (LITERAL_ONLY.test(segment)) return { regex: escapeRegex(segment), single: 0, rest: 0 };
  const variable = /^\{([^{}=]+)(?:=([^{}]*))?\}$/.exec(segment);
  if (!variable) return undefined;
  const name = variable[1]!;
  if (!NAME.test(name) || names.has(name)) return undefined;
  names.add(name);
  if (variable[2] === undefined) return { regex: SEGMENT, single: 1, rest: 0 };
  const inner: Segment[] = [];
  for (const part of variable[2].split('/')) {
    const read = part.includes('{') ? undefined : readSegment(part, names);
    if (!read || (inner.some((before) => before.rest > 0) && read.single + read.rest > 0)) return undefined;
    inner.push(read);
  }
  const sum = (of: 'single' | 'rest') => inner.reduce((total, part) => total + part[of], 0);
  return { regex: inner.map((part) => part.regex).join('/'), single: sum('single'), rest: sum('rest') };
}

function escapeRegex(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
