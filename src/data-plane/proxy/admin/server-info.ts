// /server_info: version, state, uptime, command line, node.
import { toJson } from '@bufbuild/protobuf';
import { NodeSchema } from '#proto/envoy/config/core/v3/base_pb.js';
import type { Engine } from '../engine.ts';

export function serverInfo(engine: Engine): string {
  const seconds = Math.floor((engine.deps.clock.now() - engine.startedAt) / 1000);
  return JSON.stringify(
    {
      version: engine.options.version,
      state: engine.state,
      uptime_current_epoch: `${seconds}s`,
      uptime_all_epochs: `${seconds}s`,
      hot_restart_version: 'disabled',
      command_line_options: engine.options.commandLine,
      ...(engine.bootstrap.node
        ? { node: toJson(NodeSchema, engine.bootstrap.node, { useProtoFieldName: true }) }
        : {}),
    },
    null,
    1,
  );
}
