// admin.access_log_path, the older way to name a file, as the access log it stands for. Called by the engine.
import { create } from '@bufbuild/protobuf';
import { type AccessLog, AccessLogSchema } from '#proto/envoy/config/accesslog/v3/accesslog_pb.js';
import { FileAccessLogSchema } from '#proto/envoy/extensions/access_loggers/file/v3/file_pb.js';
import { packAny } from '../../../base/envoy-api/any.ts';

export function fileAccessLog(path: string): AccessLog {
  return create(AccessLogSchema, {
    name: 'envoy.access_loggers.file',
    configType: { case: 'typedConfig', value: packAny(FileAccessLogSchema, { path }) },
  });
}
