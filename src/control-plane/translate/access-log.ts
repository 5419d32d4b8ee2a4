// Access loggers of listeners, HTTP and TCP (observability.md §2).
import type { JsonObject, MessageInitShape } from '@bufbuild/protobuf';
import { parse as parseYaml } from 'yaml';
import type { AccessLogSchema } from '#proto/envoy/config/accesslog/v3/accesslog_pb.js';
import { FileAccessLogSchema } from '#proto/envoy/extensions/access_loggers/file/v3/file_pb.js';
import type { MeshConfig } from '../../api/mesh/mesh-config.ts';
import { packAny } from '../../base/envoy-api/any.ts';

const TEXT =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% ' +
  '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" ' +
  '%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" ' +
  '"%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% ' +
  '%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n';

const JSON_FORMAT: JsonObject = {
  start_time: '%START_TIME%',
  route_name: '%ROUTE_NAME%',
  method: '%REQ(:METHOD)%',
  path: '%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%',
  protocol: '%PROTOCOL%',
  response_code: '%RESPONSE_CODE%',
  response_flags: '%RESPONSE_FLAGS%',
  response_code_details: '%RESPONSE_CODE_DETAILS%',
  connection_termination_details: '%CONNECTION_TERMINATION_DETAILS%',
  bytes_received: '%BYTES_RECEIVED%',
  bytes_sent: '%BYTES_SENT%',
  duration: '%DURATION%',
  upstream_service_time: '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%',
  x_forwarded_for: '%REQ(X-FORWARDED-FOR)%',
  user_agent: '%REQ(USER-AGENT)%',
  request_id: '%REQ(X-REQUEST-ID)%',
  authority: '%REQ(:AUTHORITY)%',
  upstream_host: '%UPSTREAM_HOST%',
  upstream_cluster: '%UPSTREAM_CLUSTER_RAW%',
  upstream_local_address: '%UPSTREAM_LOCAL_ADDRESS%',
  downstream_local_address: '%DOWNSTREAM_LOCAL_ADDRESS%',
  downstream_remote_address: '%DOWNSTREAM_REMOTE_ADDRESS%',
  requested_server_name: '%REQUESTED_SERVER_NAME%',
  upstream_transport_failure_reason: '%UPSTREAM_TRANSPORT_FAILURE_REASON%',
};

type AccessLogInit = MessageInitShape<typeof AccessLogSchema>;

/** Empty when the mesh has no access log. */
export function accessLogs(mesh: MeshConfig) {
  if (mesh.accessLogFile === '') return [];
  const format =
    mesh.accessLogEncoding === 'JSON'
      ? { case: 'jsonFormat' as const, value: jsonFormat(mesh.accessLogFormat) }
      : {
          case: 'textFormatSource' as const,
          value: { specifier: { case: 'inlineString' as const, value: mesh.accessLogFormat || TEXT } },
        };
  return [
    {
      name: 'envoy.access_loggers.file',
      configType: {
        case: 'typedConfig' as const,
        value: packAny(FileAccessLogSchema, {
          path: mesh.accessLogFile,
          accessLogFormat: { case: 'logFormat', value: { format } },
        }),
      },
    },
  ];
}

function jsonFormat(custom: string): JsonObject {
  if (custom === '') return JSON_FORMAT;
  try {
    const parsed: unknown = parseYaml(custom);
    if (typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)) return parsed as JsonObject;
  } catch {
    // Falls through to the default: a broken format must not stop the mesh.
  }
  return JSON_FORMAT;
}

/** Connections that matched no filter chain are logged by the listener itself. */
export function listenerLogs(mesh: MeshConfig): AccessLogInit[] {
  if (mesh.disableEnvoyListenerLog) return [];
  return accessLogs(mesh).map((log) => ({
    ...log,
    filter: { filterSpecifier: { case: 'responseFlagFilter', value: { flags: ['NR'] } } },
  }));
}
