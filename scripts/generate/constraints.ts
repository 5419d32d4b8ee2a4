// generated/proto/constraints.js: what protoc-gen-validate's options say about fields, by message, as one JSON text that is
// parsed when the first message is checked. Called by proto.ts.
import {
  createRegistry,
  type DescExtension,
  type DescField,
  type DescMessage,
  type DescOneof,
  type FileRegistry,
  getOption,
  type JsonObject,
  type Message,
  toJson,
} from '@bufbuild/protobuf';

/** Rules of the packaged copy that Envoy's newer API no longer has: message and field. */
const GONE: ReadonlySet<string> = new Set([
  'envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig.resolvers',
]);

/** The module's text. `rules` and `required` are extensions of the compiled files. */
export function constraintsModule(registry: FileRegistry): string {
  const rules = registry.getExtension('validate.rules');
  const required = registry.getExtension('validate.required');
  const disabled = registry.getExtension('validate.disabled');
  if (!rules || !required || !disabled) throw new Error('validate/validate.proto declares no rules');
  const lookup = createRegistry(...[...registry.files].flatMap((file) => file.messages));
  const out: Record<string, object> = {};
  const visit = (message: DescMessage): void => {
    for (const nested of message.nestedMessages) visit(nested);
    if (option(message, disabled) === true) return;
    const fields: Record<string, JsonObject> = {};
    for (const field of message.fields) {
      const found = GONE.has(`${message.typeName}.${field.name}`) ? undefined : fieldRules(field, rules, lookup);
      if (found) fields[field.name] = found;
    }
    const oneofs = message.oneofs.filter((oneof) => option(oneof, required) === true).map((oneof) => oneof.name);
    if (Object.keys(fields).length > 0 || oneofs.length > 0)
      out[message.typeName] = { ...(oneofs.length > 0 ? { o: oneofs } : {}), f: fields };
  };
  for (const file of registry.files)
    if (file.proto.package.startsWith('envoy.')) for (const message of file.messages) visit(message);
  return `export const constraints = ${JSON.stringify(JSON.stringify(out))};\n`;
}

function fieldRules(
  field: DescField,
  extension: DescExtension,
  registry: ReturnType<typeof createRegistry>,
): JsonObject | undefined {
  const value = option(field, extension);
  if (typeof value !== 'object' || value === null || !('$typeName' in value)) return undefined;
  const schema = registry.getMessage('validate.FieldRules');
  if (!schema) throw new Error('validate.FieldRules is unknown');
  const json = toJson(schema, value as Message, { useProtoFieldName: true, registry });
  const found = json as JsonObject;
  return Object.keys(found).length > 0 ? found : undefined;
}

/** The library knows the types of extensions only from generated code, which this is made before. */
function option(of: DescMessage | DescField | DescOneof, extension: DescExtension): unknown {
  return (getOption as (of: unknown, extension: unknown) => unknown)(of, extension);
}
