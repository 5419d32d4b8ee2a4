// /server_info: version, state, uptime, command line, node.
import { toJson } from '@bufbuild/protobuf';
import { NodeSchema } from '#proto/envoy/config/core/v3/base_pb.js';
import type { AdminTarget } from './target.ts';

export function serverInfo(target: AdminTarget): string {
  const uptime = `${Math.floor((target.clock.now() - target.startedAt) / 1000)}s`;
  return `${JSON.stringify(
    {
      version: target.version,
      state: target.state,
      uptime_current_epoch: uptime,
      uptime_all_epochs: uptime,
      hot_restart_version: 'disabled',
      command_line_options: target.commandLine,
      hot_restart_initializing: false,
      node: toJson(NodeSchema, target.node, { useProtoFieldName: true, alwaysEmitImplicit: true }),
    },
    null,
    1,
  )}\n`;
}
