// Path templates: `/a/*/b/**`. `*` (or `{name}`) is one segment, `**` (or `{name=**}`) any number of them; a template
// matches the whole path. Rules of envoy.extensions.path.match.uri_template, which Istio's `{*}` and `{**}` become;
// called by compile.ts. Matched segment by segment, without a regex: the cost is that of reading the path once.
import { ConfigError } from '../base/envoy-api/fields.ts';

/** Envoy's bound on variables in one template. */
const MAX_VARIABLES = 5;
const MAX_SEGMENTS = 64;
const LITERAL = /^[A-Za-z0-9\-._~%!$&'()+,;:@=]*$/;
const NAME = /^[A-Za-z][A-Za-z0-9_]{0,15}$/;

export interface PathTemplate {
  /** Every path that matches starts with this. */
  readonly prefix: string;
  test(path: string): boolean;
}

/** `one` is not empty; `rest` is one or more segments, which may be empty. */
type Segment =
  | { readonly kind: 'literal'; readonly text: string }
  | { readonly kind: 'one' }
  | { readonly kind: 'rest' };

export function compileTemplate(template: string, path: string): PathTemplate {
  const fail = (why: string): never => {
    throw new ConfigError(path, `Invalid path template '${template}': ${why}`);
  };
  if (!template.startsWith('/')) fail('it must start with /');
  const names = new Set<string>();
  const segments: Segment[] = [];
  for (const text of splitSegments(template.slice(1)))
    segments.push(...(readSegment(text, names) ?? fail(`segment '${text}' is neither a literal nor an operator`)));
  const rest = segments.findIndex((segment) => segment.kind === 'rest');
  if (rest >= 0 && segments.slice(rest + 1).some((segment) => segment.kind !== 'literal'))
    fail('** must be the last operator');
  if (segments.length > MAX_SEGMENTS || names.size > MAX_VARIABLES) fail('too many segments or variables');
  const operator = template.search(/[{*]/);
  return {
    prefix: operator < 0 ? template : template.slice(0, operator),
    test: rest < 0 ? (text) => matchAll(segments, text) : (text) => matchAround(segments, rest, text),
  };
}

/** Parts of a path behind its first `/`; undefined = it has none. */
function parts(path: string): string[] | undefined {
  return path.charCodeAt(0) === 47 ? path.slice(1).split('/') : undefined;
}

function matchAll(segments: readonly Segment[], path: string): boolean {
  const all = parts(path);
  return all?.length === segments.length && segments.every((segment, i) => matchOne(segment, all[i]!));
}

/** Segments before `**` from the front, literals behind it from the back, and something between. */
function matchAround(segments: readonly Segment[], rest: number, path: string): boolean {
  const all = parts(path);
  if (!all || all.length < segments.length) return false;
  const shift = all.length - segments.length;
  for (let i = 0; i < rest; i++) if (!matchOne(segments[i]!, all[i]!)) return false;
  for (let i = rest + 1; i < segments.length; i++) if (!matchOne(segments[i]!, all[i + shift]!)) return false;
  for (let i = rest; i <= rest + shift; i++) if (!LITERAL.test(all[i]!)) return false;
  return true;
}

function matchOne(segment: Segment, text: string): boolean {
  return segment.kind === 'literal' ? text === segment.text : text !== '' && LITERAL.test(text);
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

/** One segment, or the several that a variable stands for. */
function readSegment(segment: string, names: Set<string>): Segment[] | undefined {
  if (segment === '*') return [{ kind: 'one' }];
  if (segment === '**') return [{ kind: 'rest' }];
  if (LITERAL.test(segment)) return [{ kind: 'literal', text: segment }];
  const variable = /^\{([^{}=]+)(?:=([^{}]*))?\}$/.exec(segment);
  if (!variable) return undefined;
  const name = variable[1]!;
  if (!NAME.test(name) || names.has(name)) return undefined;
  names.add(name);
  if (variable[2] === undefined) return [{ kind: 'one' }];
  const inner: Segment[] = [];
  for (const part of variable[2].split('/')) {
    const read = part.includes('{') ? undefined : readSegment(part, names);
    if (!read) return undefined;
    inner.push(...read);
  }
  return inner;
}
