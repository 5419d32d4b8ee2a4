// Bodies of local replies and direct responses made from a format: text or JSON, with its content type. Used by routes
// and by local_reply_config of the connection manager.
import {
  type SubstitutionFormatString,
  SubstitutionFormatStringSchema,
} from '#proto/envoy/config/core/v3/substitution_format_string_pb.js';
import { ConfigError, join, only } from '../config/fields.ts';
import type { StreamInfo } from '../http/stream-info.ts';
import { type DataReader, readSource } from '../transport-socket/secrets.ts';
import { compileFormat } from './format.ts';
import { jsonFormat } from './json-format.ts';

export interface BodyFormat {
  readonly contentType: string;
  readonly print: (info: StreamInfo) => string;
}

export function compileBodyFormat(message: SubstitutionFormatString, reader: DataReader, path: string): BodyFormat {
  const json = message.format.case === 'jsonFormat';
  return {
    contentType: message.contentType || (json ? 'application/json' : 'text/plain'),
    print: compileLine(message, reader, path),
  };
}

/** One line or body; the format says how missing values look. */
export function compileLine(
  message: SubstitutionFormatString,
  reader: DataReader,
  path: string,
): (info: StreamInfo) => string {
  only(SubstitutionFormatStringSchema, message, path, [
    'text_format',
    'json_format',
    'text_format_source',
    'omit_empty_values',
    'content_type',
    'json_format_options',
  ]);
  const { format, omitEmptyValues } = message;
  const missing = omitEmptyValues ? '' : '-';
  switch (format.case) {
    case 'jsonFormat':
      return jsonFormat(format.value, omitEmptyValues, message.jsonFormatOptions?.sortProperties ?? false, path);
    case 'textFormat':
      return compileFormat(format.value, join(path, 'text_format'), missing);
    case 'textFormatSource': {
      const at = join(path, 'text_format_source');
      const text = readSource(format.value, reader, at);
      if (!text) throw new ConfigError(at, 'value is required');
      return compileFormat(text.toString(), at, missing);
    }
    case undefined:
      throw new ConfigError(join(path, 'format'), 'value is required');
  }
}
