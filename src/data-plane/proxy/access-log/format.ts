// Envoy's command operators (%REQ(X)%, %START_TIME(...)% ...): a format is compiled once and printed per request.
// Used by access logs, local replies and header values of routes. The operators themselves: operators.ts.
import { splitFormat } from '../../../base/envoy-api/command-operators.ts';
import { ConfigError } from '../config/fields.ts';
import { MAX_LOG_VALUE_CHARS } from '../limits.ts';
import { MADE, REQ_WITHOUT_QUERY, WITH_ARGUMENTS } from './argument-operators.ts';
import { SIMPLE } from './operators.ts';
import { TLS_OPERATOR_NEEDS } from './tls-operators.ts';
import type { Format, FormatDeps, Operator } from './types.ts';

export type { Format, FormatDeps, Operator } from './types.ts';

/** Compiles `text` (bytes: `utf8Bytes`); `missing` is printed where there is no value. */
export function compileFormat(text: string, path: string, missing = '-', deps?: FormatDeps): Format {
  const parts = parseFormat(text, path, deps);
  if (parts.every((part) => typeof part === 'string')) {
    const fixed = parts.join('');
    return () => fixed;
  }
  return (info) => {
    let out = '';
    for (const part of parts) {
      if (typeof part === 'string') {
        out += part;
        continue;
      }
      const value = part(info);
      if (value === undefined) out += missing;
      else out += typeof value === 'object' ? value.text : value;
    }
    return out;
  };
}

/** Text and operators in order. */
export function parseFormat(text: string, path: string, deps: FormatDeps | undefined): (string | Operator)[] {
  const parts = splitFormat(text);
  if (typeof parts === 'number')
    throw new ConfigError(path, `Incorrect configuration: ${text}. Couldn't find valid command at position ${parts}`);
  return parts.map((part) =>
    typeof part === 'string' ? part : operator(part.name, part.argument, part.length, path, deps),
  );
}

function operator(
  name: string,
  argument: string | undefined,
  length: number | undefined,
  path: string,
  deps: FormatDeps | undefined,
): Operator {
  // Some exist only where their formatter stands beside the format.
  const added = name === 'REQ_WITHOUT_QUERY' && deps?.withoutQuery ? REQ_WITHOUT_QUERY : undefined;
  const withArguments = added ?? (Object.hasOwn(WITH_ARGUMENTS, name) ? WITH_ARGUMENTS[name] : undefined);
  if (withArguments) {
    if (length !== undefined && !withArguments.length)
      throw new ConfigError(path, `${name} does not allow length to be specified.`);
    const compile = (other: string, param: string | undefined, max: number | undefined): Operator =>
      operator(other, param, max, path, deps);
    const whole = withArguments.build({ name, argument, path, deps, compile });
    return length === undefined || withArguments.length === 'ignored' ? whole : shortened(whole, length);
  }
  const simple = Object.hasOwn(SIMPLE, name) ? SIMPLE[name] : undefined;
  const made = Object.hasOwn(MADE, name) ? MADE[name] : undefined;
  if (simple || made) {
    if ((argument !== undefined && argument !== '') || length !== undefined)
      throw new ConfigError(path, `${name} does not take any parameters or length`);
    TLS_OPERATOR_NEEDS.get(name)?.();
    return simple ?? made!({ name, path, deps });
  }
  throw new ConfigError(path, `Not supported field in StreamInfo: ${name}`);
}

/** In text everything is cut; what JSON has as a structure of its own is not. */
function shortened(whole: Operator, length: number): Operator {
  const max = Math.min(length, MAX_LOG_VALUE_CHARS);
  return (info) => {
    const value = whole(info);
    if (typeof value === 'string') return value.slice(0, max);
    if (typeof value === 'object') return { text: value.text.slice(0, max), json: value.json };
    return value === undefined ? undefined : { text: String(value).slice(0, max), json: String(value) };
  };
}
