// Which field masks fit a message of /config_dump: every path must name fields of it, and ends at a list. Called by config-dump.ts.
import type { DescMessage } from '@bufbuild/protobuf';
import { file_envoy_admin_v3_config_dump } from '#proto/envoy/admin/v3/config_dump_pb.js';
import { file_envoy_admin_v3_config_dump_shared } from '#proto/envoy/admin/v3/config_dump_shared_pb.js';
import { ClusterSchema } from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import { TypedExtensionConfigSchema } from '#proto/envoy/config/core/v3/extension_pb.js';
import { ClusterLoadAssignmentSchema } from '#proto/envoy/config/endpoint/v3/endpoint_pb.js';
import { ListenerSchema } from '#proto/envoy/config/listener/v3/listener_pb.js';
import { RouteConfigurationSchema } from '#proto/envoy/config/route/v3/route_pb.js';
import { SecretSchema } from '#proto/envoy/extensions/transport_sockets/tls/v3/secret_pb.js';

/** What stands in the Any of this name. */
const INSIDE: Readonly<Record<string, DescMessage>> = {
  cluster: ClusterSchema,
  ecds_filter: TypedExtensionConfigSchema,
  endpoint_config: ClusterLoadAssignmentSchema,
  listener: ListenerSchema,
  route_config: RouteConfigurationSchema,
  secret: SecretSchema,
};

/** `type`: a name in envoy.admin.v3, as `ClustersConfigDump.StaticCluster`. */
export function fitsMask(type: string, paths: readonly string[]): boolean {
  const schema = schemaOf(type);
  return schema !== undefined && paths.every((path) => fits(schema, path.trim().split('.')));
}

function schemaOf(type: string): DescMessage | undefined {
  const [first = '', ...rest] = type.split('.');
  const files = [file_envoy_admin_v3_config_dump, file_envoy_admin_v3_config_dump_shared];
  let found = files.flatMap((file) => file.messages).find((message) => message.name === first);
  for (const name of rest) found = found?.nestedMessages.find((message) => message.name === name);
  return found;
}

function fits(schema: DescMessage, path: readonly string[]): boolean {
  const [name = '', ...rest] = path;
  const field = schema.fields.find((each) => each.name === name);
  if (!field) return false;
  if (rest.length === 0) return true;
  if (field.fieldKind !== 'message') return false;
  const inner = field.message.typeName === 'google.protobuf.Any' ? INSIDE[name] : field.message;
  return inner !== undefined && fits(inner, rest);
}
