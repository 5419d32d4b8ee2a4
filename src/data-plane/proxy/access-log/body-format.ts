// Bodies of local replies and direct responses made from a format: text or JSON, with its content type. Used by routes
// and by local_reply_config of the connection manager.
import {
  type SubstitutionFormatString,
  SubstitutionFormatStringSchema,
} from '#proto/envoy/config/core/v3/substitution_format_string_pb.js';
import { CelSchema } from '#proto/envoy/extensions/formatter/cel/v3/cel_pb.js';
import { MetadataSchema } from '#proto/envoy/extensions/formatter/metadata/v3/metadata_pb.js';
import { ReqWithoutQuerySchema } from '#proto/envoy/extensions/formatter/req_without_query/v3/req_without_query_pb.js';
import { openAny } from '../config/any.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import { utf8Bytes } from '../http/header-map.ts';
import type { StreamInfo } from '../http/stream-info.ts';
import { type DataReader, readSource } from '../transport-socket/secrets.ts';
import { compileFormat, type Format, type FormatDeps } from './format.ts';
import { jsonFormat } from './json-format.ts';

/** Where formats read files and what they know of the world. */
export interface FormatWorld {
  readonly reader: DataReader;
  readonly format: FormatDeps;
}

export interface BodyFormat {
  readonly contentType: string;
  readonly print: (info: StreamInfo) => Buffer;
}

export function compileBodyFormat(message: SubstitutionFormatString, world: FormatWorld, path: string): BodyFormat {
  const json = message.format.case === 'jsonFormat';
  const line = compileLine(message, world, path);
  return {
    contentType: message.contentType || (json ? 'application/json' : 'text/plain'),
    print: (info) => Buffer.from(line(info), 'latin1'),
  };
}

/** Formatters add operators: METADATA and CEL are known anyway, REQ_WITHOUT_QUERY only with its own. */
function withFormatters({ formatters }: SubstitutionFormatString, deps: FormatDeps, path: string): FormatDeps {
  let withoutQuery = false;
  for (const [i, { name, typedConfig }] of formatters.entries()) {
    const at = join(path, `formatters[${i}]`);
    const any = typedConfig && openAny(typedConfig, join(at, 'typed_config'));
    if (any?.typeName === ReqWithoutQuerySchema.typeName) withoutQuery = true;
    else if (any?.typeName === CelSchema.typeName) only(CelSchema, any.open(CelSchema), join(at, 'typed_config'), []);
    else if (any?.typeName !== MetadataSchema.typeName)
      throw new ConfigError(at, `formatter '${any?.typeName ?? name}' is not supported by this proxy`);
  }
  return withoutQuery ? { ...deps, withoutQuery } : deps;
}

/** One line or body, in bytes; the format says how missing values look. */
export function compileLine(message: SubstitutionFormatString, world: FormatWorld, path: string): Format {
  only(SubstitutionFormatStringSchema, message, path, [
    'text_format',
    'json_format',
    'text_format_source',
    'omit_empty_values',
    'content_type',
    'json_format_options',
    'formatters',
  ]);
  const deps = withFormatters(message, world.format, path);
  const { format, omitEmptyValues } = message;
  const missing = omitEmptyValues ? '' : '-';
  switch (format.case) {
    case 'jsonFormat':
      return jsonFormat(format.value, omitEmptyValues, deps, path);
    case 'textFormat':
      return compileFormat(utf8Bytes(format.value), join(path, 'text_format'), missing, deps);
    case 'textFormatSource': {
      const at = join(path, 'text_format_source');
      const text = readSource(format.value, world.reader, at);
      if (!text) throw new ConfigError(at, 'value is required');
      return compileFormat(text.toString('latin1'), at, missing, deps);
    }
    case undefined:
      throw new ConfigError(join(path, 'format'), 'value is required');
  }
}
