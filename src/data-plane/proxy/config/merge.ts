// protobuf MergeFrom over reflected messages: scalars overwrite when set, messages merge field by field, lists append, the
// members of a oneof replace each other. Called when --config-yaml is laid over the file.
import type { DescField } from '@bufbuild/protobuf';
import type { ReflectMessage } from '@bufbuild/protobuf/reflect';

export function mergeFrom(target: ReflectMessage, source: ReflectMessage): void {
  for (const field of source.fields) if (source.isSet(field)) mergeField(target, source, field);
}

function mergeField(target: ReflectMessage, source: ReflectMessage, field: DescField): void {
  switch (field.fieldKind) {
    case 'list': {
      const into = target.get(field);
      for (const item of source.get(field)) into.add(item);
      return;
    }
    case 'map': {
      const into = target.get(field);
      for (const [key, value] of source.get(field)) into.set(key, value);
      return;
    }
    case 'message': {
      if (!target.isSet(field)) {
        target.set(field, source.get(field));
        return;
      }
      // Wrappers and Struct come as copies, so what was merged is put back.
      const into = target.get(field);
      mergeFrom(into, source.get(field));
      target.set(field, into);
      return;
    }
    default:
      target.set(field, source.get(field));
  }
}
