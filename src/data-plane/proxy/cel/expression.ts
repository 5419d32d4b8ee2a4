// Expressions of the Common Expression Language where Envoy takes them: %CEL(...)% and %TYPED_CEL(...)% in formats, and the
// filter of access logs. Used by access-log/argument-operators.ts and access-log/filters.ts.
import type { Operator } from '../access-log/types.ts';
import type { StreamInfo } from '../http/stream-info.ts';
import { MAX_CEL_RESULT_CHARS } from '../limits.ts';
import { compileFilterExpression, compileResult } from './compile.ts';
import { isError, valueJson, valueText } from './values.ts';

/** A text, whatever the value is. */
export function celOperator(expression: string, path: string): Operator {
  const run = compileResult(expression, path);
  return (info) => valueText(run(info))?.slice(0, MAX_CEL_RESULT_CHARS);
}

/** The same text, and in JSON the value as what it is. */
export function typedCelOperator(expression: string, path: string): Operator {
  const run = compileResult(expression, path);
  return (info) => {
    const value = run(info);
    if (isError(value)) return undefined;
    // A length cuts texts alone.
    if (typeof value === 'string') return value.slice(0, MAX_CEL_RESULT_CHARS);
    const json = valueJson(value) ?? 'null';
    return {
      text: (valueText(value) ?? '').slice(0, MAX_CEL_RESULT_CHARS),
      json: json.length > MAX_CEL_RESULT_CHARS ? 'null' : json,
    };
  };
}

/** Only `true` keeps a line: not what is no bool, and no error. */
export function celFilter(expression: string, path: string): (info: StreamInfo) => boolean {
  const run = compileFilterExpression(expression, path);
  return (info) => run(info) === true;
}
