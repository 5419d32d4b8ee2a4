// %COALESCE({"operators": ["PROTOCOL", {"command": "REQ", "param": "x", "max_length": 3}]})%: the first that has a value.
// Used by argument-operators.ts.
import type { JsonValue } from '@bufbuild/protobuf';
import { ConfigError } from '../config/fields.ts';
import { utf8Bytes, utf8Text } from '../http/header-map.ts';
import type { ArgumentContext } from './argument-operators.ts';
import type { Operator } from './types.ts';
import { numberText } from './values.ts';

export function coalesce(context: ArgumentContext, parameter: string): Operator {
  const fail = (reason: string): never => {
    throw new ConfigError(context.path, `COALESCE: ${reason}`);
  };
  const list = operatorsOf(utf8Text(parameter), fail);
  const operators = list.map((entry, i) => {
    const at = (reason: string): never => fail(`failed to parse operator at index ${i}: ${reason}`);
    return operatorOf(entry, context, at);
  });
  return (info) => {
    for (const operator of operators) {
      const value = operator(info);
      if (typeof value === 'number') return { text: String(value), json: numberText(value) };
      if (value !== undefined) return value;
    }
    return undefined;
  };
}

type Fail = (reason: string) => never;

function operatorsOf(text: string, fail: Fail): readonly JsonValue[] {
  let spec: JsonValue;
  try {
    spec = JSON.parse(text) as JsonValue;
  } catch (error) {
    return fail(`failed to parse JSON configuration: JSON supplied is not valid. ${(error as Error).message}`);
  }
  const list = typeof spec === 'object' && spec !== null && !Array.isArray(spec) ? spec.operators : undefined;
  if (list === undefined) return fail("JSON configuration must contain 'operators' array");
  if (!Array.isArray(list)) return fail("'operators' must be an array: key 'operators' missing or not an array");
  return list.length === 0 ? fail("'operators' array must not be empty") : list;
}

function operatorOf(entry: JsonValue, context: ArgumentContext, fail: Fail): Operator {
  if (typeof entry === 'string') return compiled(context, entry, undefined, undefined, fail);
  if (typeof entry !== 'object' || entry === null || Array.isArray(entry))
    return fail("operator entry must be either a string (command name) or an object with 'command' field");
  const { command, param, max_length: max } = entry;
  if (typeof command !== 'string')
    return fail("operator object must have 'command' field: key 'command' missing or not a string");
  if (param !== undefined && typeof param !== 'string')
    return fail("'param' field must be a string: key 'param' missing or not a string");
  if (max !== undefined && !Number.isInteger(max))
    return fail("'max_length' field must be an integer: key 'max_length' missing or not an integer");
  if (typeof max === 'number' && max <= 0) return fail("'max_length' must be a positive integer");
  return compiled(context, command, param, max as number | undefined, fail);
}

function compiled(
  context: ArgumentContext,
  command: string,
  param: string | undefined,
  max: number | undefined,
  fail: Fail,
): Operator {
  try {
    return context.compile(command, param === undefined ? undefined : utf8Bytes(param), max);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const reason = error.path === '' ? error.message : error.message.slice(error.path.length + 2);
    return fail(reason.startsWith('Not supported field') ? `unknown command: '${command}'` : reason);
  }
}
