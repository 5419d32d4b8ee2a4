// Header additions and removals of routes, virtual hosts and weighted clusters.
import {
  HeaderValueOption_HeaderAppendAction as Action,
  type HeaderValueOption,
  HeaderValueOptionSchema,
  HeaderValueSchema,
} from '#proto/envoy/config/core/v3/base_pb.js';
import { compileFormat, type Format } from '../access-log/format.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import { type HeaderMap, type HeaderName, headerName } from '../http/header-map.ts';
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
  /** New authority, from a `host` or `:authority` addition. */
  readonly authority: Format | undefined;
}

export const NO_EDITS: HeaderEdits = { remove: [], add: [], authority: undefined };

export function compileEdits(add: readonly HeaderValueOption[], remove: readonly string[], path: string): HeaderEdits {
  if (add.length === 0 && remove.length === 0) return NO_EDITS;
  const edits: Edit[] = [];
  let authority: Format | undefined;
  for (const [i, option] of add.entries()) {
    const at = join(path, `headers_to_add[${i}]`);
    only(HeaderValueOptionSchema, option, at, ['header', 'append', 'append_action', 'keep_empty_value']);
    if (!option.header || option.header.key === '') throw new ConfigError(join(at, 'header.key'), 'value is required');
    only(HeaderValueSchema, option.header, join(at, 'header'), ['key', 'value', 'raw_value']);
    const key = option.header.key.toLowerCase();
    const text = option.header.value || Buffer.from(option.header.rawValue).toString('latin1');
    const format = compileFormat(text, join(at, 'header.value'), '');
    if (key === 'host' || key === ':authority') authority = format;
    else if (key.startsWith(':'))
      throw new ConfigError(join(at, 'header.key'), `:-prefixed or host headers may not be modified: ${key}`);
    else edits.push({ name: headerName(key), format, action: actionOf(option), keepEmpty: option.keepEmptyValue });
  }
  for (const name of remove)
    if (name.startsWith(':') || name.toLowerCase() === 'host')
      throw new ConfigError(join(path, 'headers_to_remove'), `:-prefixed or host headers may not be removed: ${name}`);
  return { add: edits, remove: remove.map(headerName), authority };
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
  for (const name of edits.remove) headers.remove(name);
  for (const edit of edits.add) {
    const value = edit.format(info);
    if (value === '' && !edit.keepEmpty) continue;
    if (edit.action === 'append') headers.add(edit.name, value);
    else if (edit.action === 'if-absent') headers.setIfAbsent(edit.name, value);
    else if (edit.action === 'overwrite' || headers.has(edit.name)) headers.set(edit.name, value);
  }
}
