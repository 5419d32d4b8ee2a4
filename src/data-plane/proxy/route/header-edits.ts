// Header additions and removals of routes, virtual hosts, weighted clusters and mirrors.
import {
  type HeaderMutation,
  HeaderMutationSchema,
} from '#proto/envoy/config/common/mutation_rules/v3/mutation_rules_pb.js';
import {
  HeaderValueOption_HeaderAppendAction as Action,
  type HeaderValueOption,
  HeaderValueOptionSchema,
  HeaderValueSchema,
} from '#proto/envoy/config/core/v3/base_pb.js';
import { compileFormat, type Format, type FormatDeps } from '../access-log/format.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import { type HeaderMap, type HeaderName, headerName, utf8Bytes } from '../http/header-map.ts';
import type { StreamInfo } from '../http/stream-info.ts';

interface Edit {
  readonly name: HeaderName;
  readonly format: Format;
  readonly action: 'append' | 'if-absent' | 'overwrite' | 'overwrite-if-present';
  readonly keepEmpty: boolean;
}

export interface HeaderEdits {
  readonly remove: readonly HeaderName[];
  readonly add: readonly Edit[];
}

export const NO_EDITS: HeaderEdits = { remove: [], add: [] };

export function compileEdits(
  add: readonly HeaderValueOption[],
  remove: readonly string[],
  path: string,
  deps?: FormatDeps,
): HeaderEdits {
  if (add.length === 0 && remove.length === 0) return NO_EDITS;
  if (add.length > MAX_EDITS)
    throw new ConfigError(join(path, 'headers_to_add'), `value must contain no more than ${MAX_EDITS} item(s)`);
  const edits = add.map((option, i) => compileEdit(option, join(path, `headers_to_add[${i}]`), deps));
  for (const [i, name] of remove.entries()) removable(name, join(path, `headers_to_remove[${i}]`));
  return { add: edits, remove: remove.map(headerName) };
}

/** The list form of newer messages: removals count before additions, as everywhere in routes. */
export function compileMutations(mutations: readonly HeaderMutation[], path: string, deps?: FormatDeps): HeaderEdits {
  const add: Edit[] = [];
  const remove: HeaderName[] = [];
  for (const [i, mutation] of mutations.entries()) {
    const at = `${path}[${i}]`;
    only(HeaderMutationSchema, mutation, at, ['remove', 'append']);
    const { action } = mutation;
    if (action.case === 'remove') {
      removable(action.value, join(at, 'remove'));
      remove.push(headerName(action.value));
    } else if (action.case === 'append') add.push(compileEdit(action.value, join(at, 'append'), deps));
    else throw new ConfigError(join(at, 'action'), 'value is required');
  }
  return add.length === 0 && remove.length === 0 ? NO_EDITS : { add, remove };
}

const MAX_EDITS = 1000;

function removable(name: string, path: string): void {
  if (name === '') throw new ConfigError(path, 'value is required');
  if (name.startsWith(':') || name.toLowerCase() === 'host')
    throw new ConfigError(path, ':-prefixed or host headers may not be removed');
}

function compileEdit(option: HeaderValueOption, path: string, deps: FormatDeps | undefined): Edit {
  only(HeaderValueOptionSchema, option, path, ['header', 'append', 'append_action', 'keep_empty_value']);
  if (!option.header || option.header.key === '') throw new ConfigError(join(path, 'header.key'), 'value is required');
  only(HeaderValueSchema, option.header, join(path, 'header'), ['key', 'value', 'raw_value']);
  const key = option.header.key.toLowerCase();
  if (key.startsWith(':') || key === 'host')
    throw new ConfigError(join(path, 'header.key'), ':-prefixed or host headers may not be modified');
  if (!/^[!#$%&'*+\-.^_`|~0-9a-z]+$/.test(key))
    throw new ConfigError(join(path, 'header.key'), `'${key}' is not a header name`);
  const text = utf8Bytes(option.header.value) || Buffer.from(option.header.rawValue).toString('latin1');
  return {
    name: headerName(key),
    format: compileFormat(text, join(path, 'header.value'), '', deps),
    action: actionOf(option),
    keepEmpty: option.keepEmptyValue,
  };
}

function actionOf(option: HeaderValueOption): Edit['action'] {
  // The old `append` wrapper, when false, means overwrite.
  if (option.append === false) return 'overwrite';
  switch (option.appendAction) {
    case Action.ADD_IF_ABSENT:
      return 'if-absent';
    case Action.OVERWRITE_IF_EXISTS_OR_ADD:
      return 'overwrite';
    case Action.OVERWRITE_IF_EXISTS:
      return 'overwrite-if-present';
    default:
      return 'append';
  }
}

export function applyEdits(edits: HeaderEdits, headers: HeaderMap, info: StreamInfo): void {
  if (edits === NO_EDITS) return;
  for (const name of edits.remove) headers.remove(name);
  for (const edit of edits.add) {
    const value = edit.format(info);
    if (value === '' && !edit.keepEmpty) continue;
    if (edit.action === 'append') headers.add(edit.name, value);
    else if (edit.action === 'if-absent') headers.setIfAbsent(edit.name, value);
    else if (edit.action === 'overwrite' || headers.has(edit.name)) headers.set(edit.name, value);
  }
}
