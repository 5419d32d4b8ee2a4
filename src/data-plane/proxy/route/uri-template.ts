// Rewrites by envoy.path.rewrite.uri_template: the variables of the template that matched, put where another one says. Used by
// route actions.
import { LITERAL_CHARS, type UriTemplate, VARIABLE_NAME } from '../../../base/envoy-api/uri-template.ts';
import { ConfigError } from '../config/fields.ts';

const LITERAL = new RegExp(`^[${LITERAL_CHARS}/*]*$`);

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
      if (!LITERAL.test(piece)) fail(`path_template_rewrite ${text} is invalid`);
      if (piece !== '') parts.push(piece);
      continue;
    }
    const name = piece.slice(1, -1);
    if (!VARIABLE_NAME.test(name)) fail(`path_template_rewrite ${text} is invalid`);
    const group = template.variables.indexOf(name);
    if (group < 0)
      fail(`mismatch between variables in path_match_policy ${template.text} and path_rewrite_policy ${text}`);
    parts.push(group);
  }
  return (target) => {
    const values = template.capture(target);
    return values && parts.map((part) => (typeof part === 'string' ? part : values[part])).join('');
  };
}
