// Path templates of envoy.path.match.uri_template and envoy.path.rewrite.uri_template: `/a/{x}/{rest=**}`. Compiled to one
// linear expression with a group a variable. Used by route matches and rewrites.
import type { RE2JS } from 're2js';
import { ConfigError } from '../config/fields.ts';
import { compileRegex } from '../config/matchers.ts';

/** Envoy's bounds. */
const MAX_VARIABLES = 5;
const MAX_NAME_CHARS = 16;
const LITERAL_CHARS = "A-Za-z0-9\\-._~%!$&'()+,;:@=";
const LITERAL = new RegExp(`^[${LITERAL_CHARS}]*$`);
const SEGMENT = `[${LITERAL_CHARS}]+`;
const REST = `[${LITERAL_CHARS}/]*`;
const NAME = /^[A-Za-z][A-Za-z0-9_]*$/;

export interface UriTemplate {
  readonly text: string;
  /** Names of the variables in the order of their groups. */
  readonly variables: readonly string[];
  readonly pattern: RE2JS;
  /** The whole path must match. */
  test(path: string): boolean;
}

export function compileTemplate(text: string, path: string): UriTemplate {
  const builder = new TemplateBuilder(text, path);
  if (!text.startsWith('/')) builder.fail(`Invalid pattern: "${text}"`);
  const segments = splitSegments(text.slice(1));
  let regex = '';
  for (const [i, segment] of segments.entries()) regex += `/${builder.segment(segment, i === segments.length - 1)}`;
  const { variables } = builder;
  if (variables.length > MAX_VARIABLES) builder.fail(`Exceeded variable count limit (${MAX_VARIABLES})`);
  const pattern = compileRegex(regex, path);
  return { text, variables, pattern, test: (candidate) => pattern.testExact(candidate) };
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

class TemplateBuilder {
  readonly variables: string[] = [];
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

  segment(segment: string, last: boolean): string {
    // `{name=…}` or a glob, maybe with a literal behind it.
    const variable = /^\{([^{}]*)\}(.*)$/.exec(segment);
    if (variable) return this.#variable(variable[1]!) + this.#suffix(variable[2]!);
    const glob = /^(\*\*?)(.*)$/.exec(segment);
    if (glob) return this.#glob(glob[1]!) + this.#suffix(glob[2]!);
    if (segment.includes('{') || segment.includes('}'))
      this.fail(`Unmatched variable bracket in mixed pattern: "${segment}"`);
    if (!LITERAL.test(segment) || (segment === '' && !last)) this.fail(`Invalid literal: "${segment}"`);
    return escapeRegex(segment);
  }

  #suffix(text: string): string {
    if (!LITERAL.test(text)) this.fail(`Invalid suffix literal: "${text}"`);
    return escapeRegex(text);
  }

  #glob(glob: string): string {
    if (this.#rest) this.fail('Glob after text glob.');
    if (glob === '*') return SEGMENT;
    this.#rest = true;
    return REST;
  }

  #variable(content: string): string {
    const equal = content.indexOf('=');
    const name = equal < 0 ? content : content.slice(0, equal);
    if (name.length === 0 || name.length > MAX_NAME_CHARS)
      this.fail(
        `Invalid variable name length (length of "${name}" should be at least 1 and no more than ${MAX_NAME_CHARS})`,
      );
    if (!NAME.test(name)) this.fail(`Invalid variable name: "${name}"`);
    if (this.variables.includes(name)) this.fail(`Repeated variable name: "${name}"`);
    this.variables.push(name);
    if (equal < 0) return `(${this.#glob('*')})`;
    const inner = content.slice(equal + 1);
    if (inner === '') this.fail('Empty variable match');
    const parts = inner.split('/').map((part) => {
      if (part === '*' || part === '**') return this.#glob(part);
      if (part === '' || !LITERAL.test(part)) this.fail(`Invalid variable match: "${part}"`);
      return escapeRegex(part);
    });
    return `(${parts.join('/')})`;
  }
}

function escapeRegex(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

/** A rewrite template: literal text and variables of the match. Throws when it names another. */
export function compileTemplateRewrite(
  text: string,
  template: UriTemplate,
  path: string,
): (path: string) => string | undefined {
  const fail = (why: string): never => {
    throw new ConfigError(path, why);
  };
  if (!text.startsWith('/') || text.includes('//')) fail(`path_template_rewrite ${text} is invalid`);
  const parts: (string | number)[] = [];
  for (const piece of text.split(/(\{[^{}]*\})/)) {
    if (!piece.startsWith('{')) {
      if (/[{}]/.test(piece) || !new RegExp(`^[${LITERAL_CHARS}/*]*$`).test(piece))
        fail(`path_template_rewrite ${text} is invalid`);
      if (piece !== '') parts.push(piece);
      continue;
    }
    const name = piece.slice(1, -1);
    if (!NAME.test(name)) fail(`path_template_rewrite ${text} is invalid`);
    const group = template.variables.indexOf(name);
    if (group < 0)
      fail(`mismatch between variables in path_match_policy ${template.text} and path_rewrite_policy ${text}`);
    parts.push(group + 1);
  }
  return (target) => {
    const matcher = template.pattern.matcher(target);
    if (!matcher.matches()) return undefined;
    let out = '';
    for (const part of parts) out += typeof part === 'string' ? part : (matcher.group(part) ?? '');
    return out;
  };
}
