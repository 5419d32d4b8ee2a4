// How HTTP/1 spells header names: in lower case, in Proper-Case, or as the other side spelled them. Read from
// Http1ProtocolOptions; used by HeaderMap and both sides of HTTP/1.
import {
  type Http1ProtocolOptions_HeaderKeyFormat,
  Http1ProtocolOptions_HeaderKeyFormatSchema,
} from '#proto/envoy/config/core/v3/protocol_pb.js';
import {
  PreserveCaseFormatterConfig_FormatterTypeOnEnvoyHeaders as OnEnvoyHeaders,
  PreserveCaseFormatterConfigSchema,
} from '#proto/envoy/extensions/http/header_formatters/preserve_case/v3/preserve_case_pb.js';
import { openAny } from '../config/any.ts';
import { ConfigError, join, only } from '../config/fields.ts';

export interface HeaderCase {
  /** Names that nobody else spelled are written Like-This. */
  readonly proper: boolean;
  /** What is read keeps its spelling on the way. */
  readonly keep: boolean;
}

export const LOWER_CASE: HeaderCase = { proper: false, keep: false };

export function readHeaderCase(format: Http1ProtocolOptions_HeaderKeyFormat | undefined, path: string): HeaderCase {
  if (!format) return LOWER_CASE;
  only(Http1ProtocolOptions_HeaderKeyFormatSchema, format, path, ['proper_case_words', 'stateful_formatter']);
  const { headerFormat } = format;
  if (headerFormat.case === 'properCaseWords') return { proper: true, keep: false };
  if (headerFormat.case !== 'statefulFormatter' || !headerFormat.value.typedConfig)
    throw new ConfigError(join(path, 'header_format'), 'value is required');
  const at = join(path, 'stateful_formatter.typed_config');
  const any = openAny(headerFormat.value.typedConfig, at);
  if (any.typeName !== PreserveCaseFormatterConfigSchema.typeName)
    throw new ConfigError(at, `header formatter '${any.typeName}' is not supported by this proxy`);
  const message = any.open(PreserveCaseFormatterConfigSchema);
  only(PreserveCaseFormatterConfigSchema, message, at, ['formatter_type_on_envoy_headers']);
  return { proper: message.formatterTypeOnEnvoyHeaders === OnEnvoyHeaders.PROPER_CASE, keep: true };
}

/** Writes `name` with a capital at its start and after each `-`; returns the end. */
export function writeProper(out: Buffer, at: number, name: Buffer, start: number, end: number): number {
  let first = true;
  for (let i = start; i < end; i++) {
    const byte = name[i]!;
    out[at] = first && byte >= 97 && byte <= 122 ? byte - 32 : byte;
    first = byte === 45;
    at += 1;
  }
  return at;
}
