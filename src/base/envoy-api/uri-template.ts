// Path templates of envoy.path.match.uri_template: `/a/{x}/{rest=**}`. `*` (or `{name}`) is one segment, `**` (or `{name=**}`)
// any number of them; a template matches the whole path. Compiled to segments, not to a regex: the cost is that of reading the
// path once. Called by routes and by the policy engine.
import { ConfigError } from './fields.ts';

/** Envoy's bounds. */
const MAX_VARIABLES = 5;
const MAX_NAME_CHARS = 16;
const MAX_SEGMENTS = 64;
export const LITERAL_CHARS = "A-Za-z0-9\\-._~%!$&'()+,;:@=";
const LITERAL = new RegExp(`^[${LITERAL_CHARS}]*$`);
export const VARIABLE_NAME = /^[A-Za-z][A-Za-z0-9_]*$/;

export interface UriTemplate {
  readonly text: string;
  /** Names of the variables in the order of what `capture` returns. */
  readonly variables: readonly string[];
  /** Every path that matches starts with this. */
  readonly prefix: string;
  test(path: string): boolean;
  /** What each variable stands for; undefined = no match. */
  capture(path: string): readonly string[] | undefined;
}

/** `one` is not empty; `rest` is one or more segments, which may be empty. Both may have literal text behind them. */
interface Segment {
  readonly kind: 'literal' | 'one' | 'rest';
  readonly text: string;
}

/** The segments a variable stands for, the last among them, and the characters behind it that are not its own. */
interface Variable {
  readonly name: string;
  readonly from: number;
  readonly last: number;
  readonly behind: number;
}

export function compileTemplate(text: string, path: string): UriTemplate {
  const reader = new TemplateReader(text, path);
  if (!text.startsWith('/')) reader.fail(`Invalid pattern: "${text}"`);
  const parts = splitSegments(text.slice(1));
  for (const [i, part] of parts.entries()) reader.read(part, i === parts.length - 1);
  const { segments, variables } = reader;
  if (variables.length > MAX_VARIABLES) reader.fail(`Exceeded variable count limit (${MAX_VARIABLES})`);
  if (segments.length > MAX_SEGMENTS) reader.fail(`Exceeded segment count limit (${MAX_SEGMENTS})`);
  const rest = segments.findIndex((segment) => segment.kind === 'rest');
  const operator = text.search(/[{*]/);
  const match = (candidate: string): string[] | undefined => matchSegments(segments, rest, candidate);
  return {
    text,
    variables: variables.map(({ name }) => name),
    prefix: operator < 0 ? text : text.slice(0, operator),
    test: (candidate) => match(candidate) !== undefined,
    capture(candidate) {
      const all = match(candidate);
      const shift = all ? all.length - segments.length : 0;
      // What stands behind `**` has moved by the segments that it took, and so has its own end.
      const start = (i: number): number => (rest >= 0 && i > rest ? i + shift : i);
      const end = (i: number): number => (rest >= 0 && i >= rest ? i + shift : i) + 1;
      return all && variables.map(({ from, last, behind }) => textOf(all, start(from), end(last), behind));
    },
  };
}

function textOf(parts: readonly string[], from: number, to: number, behind: number): string {
  const whole = parts.slice(from, to).join('/');
  return behind === 0 ? whole : whole.slice(0, -behind);
}

/** The parts of a path that matches: up to `**` from the front, behind it from the back. */
function matchSegments(segments: readonly Segment[], rest: number, path: string): string[] | undefined {
  if (path.charCodeAt(0) !== 47) return undefined;
  const all = path.slice(1).split('/');
  const shift = all.length - segments.length;
  if (rest < 0 ? shift !== 0 : shift < 0) return undefined;
  for (const [i, segment] of segments.entries())
    if (i !== rest && !matchOne(segment, all[rest >= 0 && i > rest ? i + shift : i]!)) return undefined;
  if (rest < 0) return all;
  for (let i = rest; i <= rest + shift; i++) if (!LITERAL.test(all[i]!)) return undefined;
  return all[rest + shift]!.endsWith(segments[rest]!.text) ? all : undefined;
}

function matchOne({ kind, text }: Segment, part: string): boolean {
  if (kind === 'literal') return part === text;
  return part.length > text.length && part.endsWith(text) && LITERAL.test(part);
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

class TemplateReader {
  readonly segments: Segment[] = [];
  readonly variables: Variable[] = [];
  readonly #text: string;
  readonly #path: string;
  #rest = false;

  constructor(text: string, path: string) {
    this.#text = text;
    this.#path = path;
  }

  fail(why: string): never {
    throw new ConfigError(this.#path, `path_template ${this.#text} is invalid: ${why}`);
  }

  read(segment: string, last: boolean): void {
    // `{name=…}` or a glob, maybe with a literal behind it.
    const variable = /^\{([^{}]*)\}(.*)$/.exec(segment);
    if (variable) {
      this.#variable(variable[1]!, this.#suffix(variable[2]!));
      return;
    }
    const glob = /^(\*\*?)(.*)$/.exec(segment);
    if (glob) {
      this.segments.push(this.#glob(glob[1]!, this.#suffix(glob[2]!)));
      return;
    }
    if (segment.includes('{') || segment.includes('}'))
      this.fail(`Unmatched variable bracket in mixed pattern: "${segment}"`);
    if (!LITERAL.test(segment) || (segment === '' && !last)) this.fail(`Invalid literal: "${segment}"`);
    this.segments.push({ kind: 'literal', text: segment });
  }

  #suffix(text: string): string {
    if (!LITERAL.test(text)) this.fail(`Invalid suffix literal: "${text}"`);
    return text;
  }

  #glob(glob: string, suffix: string): Segment {
    if (this.#rest) this.fail('Glob after text glob.');
    if (glob === '*') return { kind: 'one', text: suffix };
    this.#rest = true;
    return { kind: 'rest', text: suffix };
  }

  #variable(content: string, suffix: string): void {
    const equal = content.indexOf('=');
    const name = equal < 0 ? content : content.slice(0, equal);
    this.#name(name);
    const inner = equal < 0 ? '*' : content.slice(equal + 1);
    if (inner === '') this.fail('Empty variable match');
    const from = this.segments.length;
    const parts = inner.split('/');
    for (const [i, part] of parts.entries()) {
      const behind = i === parts.length - 1 ? suffix : '';
      if (part === '*' || part === '**') this.segments.push(this.#glob(part, behind));
      else if (part === '' || !LITERAL.test(part)) this.fail(`Invalid variable match: "${part}"`);
      else this.segments.push({ kind: 'literal', text: part + behind });
    }
    this.variables.push({ name, from, last: this.segments.length - 1, behind: suffix.length });
  }

  #name(name: string): void {
    if (name.length === 0 || name.length > MAX_NAME_CHARS)
      this.fail(
        `Invalid variable name length (length of "${name}" should be at least 1 and no more than ${MAX_NAME_CHARS})`,
      );
    if (!VARIABLE_NAME.test(name)) this.fail(`Invalid variable name: "${name}"`);
    if (this.variables.some((known) => known.name === name)) this.fail(`Repeated variable name: "${name}"`);
  }
}
