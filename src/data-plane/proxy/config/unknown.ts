// Fields that a message carries and its type does not know, also inside Any: found by path and dropped.
// Called for binary bootstraps, and for xDS resources that were refused because of such a field.
import {
  type DescMessage,
  fromBinary,
  type Message,
  type MessageShape,
  type Registry,
  toBinary,
} from '@bufbuild/protobuf';
import { type ReflectMessage, reflect } from '@bufbuild/protobuf/reflect';
import type { Any } from '@bufbuild/protobuf/wkt';
import { AnySchema } from '@bufbuild/protobuf/wkt';

/** Is told of every message with such fields, before they are dropped; may throw. */
export type ReportUnknown = (path: string, numbers: readonly number[]) => void;

/** True when something was dropped. */
export function dropUnknown<D extends DescMessage>(
  schema: D,
  message: MessageShape<D>,
  registry: Registry,
  report: ReportUnknown,
): boolean {
  return drop(reflect(schema, message), '', registry, report);
}

function drop(message: ReflectMessage, path: string, registry: Registry, report: ReportUnknown): boolean {
  const unknown = message.getUnknown() ?? [];
  let dropped = unknown.length > 0;
  if (dropped) {
    report(path, [...new Set(unknown.map((field) => field.no))]);
    message.setUnknown([]);
  }
  if (message.desc.typeName === AnySchema.typeName)
    return insideAny(message.message as Any, path, registry, report) || dropped;
  for (const field of message.fields) {
    if (!message.isSet(field)) continue;
    const at = path === '' ? field.name : `${path}.${field.name}`;
    if (field.fieldKind === 'message') dropped = one(message.get(field), at, registry, report) || dropped;
    else if (field.fieldKind === 'list' && field.listKind === 'message') {
      let i = 0;
      for (const item of message.get(field)) {
        dropped = one(item, `${at}[${i}]`, registry, report) || dropped;
        i += 1;
      }
    } else if (field.fieldKind === 'map' && field.mapKind === 'message')
      for (const [key, value] of message.get(field))
        dropped = one(value, `${at}["${String(key)}"]`, registry, report) || dropped;
  }
  return dropped;
}

function one(value: unknown, path: string, registry: Registry, report: ReportUnknown): boolean {
  // Wrappers and Struct are shown as plain values and cannot hold any.
  return isReflected(value) ? drop(value, path, registry, report) : false;
}

const isReflected = (value: unknown): value is ReflectMessage =>
  typeof value === 'object' && value !== null && 'desc' in value && 'message' in value;

function insideAny(any: Any, path: string, registry: Registry, report: ReportUnknown): boolean {
  const schema = registry.getMessage(any.typeUrl.slice(any.typeUrl.lastIndexOf('/') + 1));
  if (!schema) return false;
  let inner: Message;
  try {
    inner = fromBinary(schema, any.value);
  } catch {
    // Who opens it will say so.
    return false;
  }
  if (!drop(reflect(schema, inner), `${path}.<any>`, registry, report)) return false;
  any.value = toBinary(schema, inner);
  return true;
}
