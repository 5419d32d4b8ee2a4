// local_reply_config: what becomes of the answers the proxy makes by itself. Read by settings.ts, applied by local-reply.ts.
import type { HttpConnectionManager } from '#proto/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js';
import {
  LocalReplyConfigSchema,
  type ResponseMapper,
  ResponseMapperSchema,
} from '#proto/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js';
import { type BodyFormat, compileBodyFormat } from '../access-log/body-format.ts';
import { compileFilter, type Keep } from '../access-log/filters.ts';
import type { FormatDeps } from '../access-log/format.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import { MAX_DIRECT_RESPONSE_BYTES } from '../limits.ts';
import { applyEdits, compileEdits, type HeaderEdits } from '../route/header-edits.ts';
import type { RuntimeView } from '../runtime/runtime.ts';
import { type DataReader, readSource } from '../transport-socket/secrets.ts';
import { type HeaderMap, utf8Bytes } from './header-map.ts';
import type { LocalReply } from './local-reply.ts';
import type { StreamInfo } from './stream-info.ts';

export interface LocalReplyContext {
  readonly reader: DataReader;
  readonly format: FormatDeps;
  readonly runtime: RuntimeView;
  readonly random: () => number;
}

export interface LocalReplies {
  rewrite(
    info: StreamInfo,
    reply: LocalReply,
    headers: HeaderMap,
  ): { readonly status: number; readonly body: string | Buffer; readonly contentType: string | undefined };
}

interface Mapper {
  readonly applies: Keep;
  readonly status: number | undefined;
  readonly body: string | undefined;
  readonly format: BodyFormat | undefined;
  readonly edits: HeaderEdits;
}

export function compileLocalReplies(
  message: HttpConnectionManager['localReplyConfig'],
  context: LocalReplyContext,
  path: string,
): LocalReplies | undefined {
  if (!message) return undefined;
  only(LocalReplyConfigSchema, message, path, ['mappers', 'body_format']);
  const mappers = message.mappers.map((mapper, i) => compileMapper(mapper, context, join(path, `mappers[${i}]`)));
  const format = message.bodyFormat && compileBodyFormat(message.bodyFormat, context, join(path, 'body_format'));
  return {
    rewrite(info, reply, headers) {
      info.responseCode = reply.status;
      info.responseHeaders = headers;
      const mapper = mappers.find((one) => one.applies(info));
      const status = mapper?.status ?? reply.status;
      // The headers are made before the status is changed.
      if (mapper) applyEdits(mapper.edits, headers, info);
      info.responseCode = status;
      const body = mapper?.body ?? reply.body;
      const print = mapper?.format ?? format;
      if (!print) return { status, body, contentType: mapper?.body === undefined ? reply.contentType : undefined };
      info.localReplyBody = typeof body === 'string' ? utf8Bytes(body) : body.toString('latin1');
      return { status, body: print.print(info), contentType: print.contentType };
    },
  };
}

function compileMapper(message: ResponseMapper, context: LocalReplyContext, path: string): Mapper {
  only(ResponseMapperSchema, message, path, [
    'filter',
    'status_code',
    'body',
    'body_format_override',
    'headers_to_add',
  ]);
  if (!message.filter) throw new ConfigError(join(path, 'filter'), 'value is required');
  const { statusCode, bodyFormatOverride } = message;
  if (statusCode !== undefined && (statusCode < 200 || statusCode > 599))
    throw new ConfigError(join(path, 'status_code'), 'value must be inside range [200, 600)');
  const body = message.body && readSource(message.body, context.reader, join(path, 'body'));
  if (body && body.length > MAX_DIRECT_RESPONSE_BYTES)
    throw new ConfigError(join(path, 'body'), `is larger than ${MAX_DIRECT_RESPONSE_BYTES} bytes`);
  return {
    applies: compileFilter(message.filter, context, join(path, 'filter')),
    status: statusCode,
    body: body?.toString(),
    format: bodyFormatOverride && compileBodyFormat(bodyFormatOverride, context, join(path, 'body_format_override')),
    edits: compileEdits(message.headersToAdd, [], path, context.format),
  };
}
