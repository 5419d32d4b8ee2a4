// Bodies of local replies and direct responses made from a format: text or JSON, with its content type. Used by routes
// and by local_reply_config of the connection manager.
import {
  type SubstitutionFormatString,
  SubstitutionFormatStringSchema,
} from '#proto/envoy/config/core/v3/substitution_format_string_pb.js';
import { ConfigError, join, only } from '../config/fields.ts';
import type { StreamInfo } from '../http/stream-info.ts';
import { type DataReader, readSource } from '../transport-socket/secrets.ts';
import { compileFormat, type FormatDeps } from './format.ts';
import { jsonFormat } from './json-format.ts';

/** Where formats read files and what they know of the world. */
export interface FormatWorld {
  readonly reader: DataReader;
  readonly format: FormatDeps;
}

export interface BodyFormat {
  readonly contentType: string;
  readonly print: (info: StreamInfo) => string;
}

export function compileBodyFormat(message: SubstitutionFormatString, world: FormatWorld, path: string): BodyFormat {
  const json = message.format.case === 'jsonFormat';
  return {
    contentType: message.contentType || (json ? 'application/json' : 'text/plain'),
    print: compileLine(message, world, path),
  };
}

/** One line or body; the format says how missing values look. */
export function compileLine(
  message: SubstitutionFormatString,
  world: FormatWorld,
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
      return jsonFormat(format.value, omitEmptyValues, world.format, path);
    case 'textFormat':
      return compileFormat(format.value, join(path, 'text_format'), missing, world.format);
    case 'textFormatSource': {
      const at = join(path, 'text_format_source');
      const text = readSource(format.value, world.reader, at);
      if (!text) throw new ConfigError(at, 'value is required');
      return compileFormat(text.toString(), at, missing, world.format);
    }
    case undefined:
      throw new ConfigError(join(path, 'format'), 'value is required');
  }
}
