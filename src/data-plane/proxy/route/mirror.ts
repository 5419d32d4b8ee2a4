// Mirror policies: copies of a request whose answers nobody waits for. Used by action.ts; sent by http-filter/router-mirror.ts.
import {
  type RouteAction_RequestMirrorPolicy,
  RouteAction_RequestMirrorPolicySchema,
} from '#proto/envoy/config/route/v3/route_components_pb.js';
import type { FormatDeps } from '../access-log/format.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import { type HeaderName, headerName } from '../http/header-map.ts';
import { type RuntimeView, runtimeShare, type Share } from '../runtime/runtime.ts';
import { compileMutations, type HeaderEdits } from './header-edits.ts';

export interface MirrorPolicy {
  readonly cluster: string;
  /** Names the cluster when `cluster` is empty. */
  readonly clusterHeader: HeaderName | undefined;
  readonly share: Share;
  /** `-shadow` behind the host name. */
  readonly appendSuffix: boolean;
  readonly hostRewrite: string;
  readonly edits: HeaderEdits;
}

export function compileMirrors(
  messages: readonly RouteAction_RequestMirrorPolicy[],
  runtime: RuntimeView,
  format: FormatDeps,
  path: string,
): readonly MirrorPolicy[] {
  return messages.map((message, i) => {
    const at = join(path, `request_mirror_policies[${i}]`);
    only(RouteAction_RequestMirrorPolicySchema, message, at, [
      'cluster',
      'cluster_header',
      'runtime_fraction',
      // Spans are not made yet: there is nothing to sample.
      'trace_sampled',
      'disable_shadow_host_suffix_append',
      'request_headers_mutations',
      'host_rewrite_literal',
    ]);
    const { cluster, clusterHeader } = message;
    if ((cluster === '') === (clusterHeader === ''))
      throw new ConfigError(at, 'Only one of cluster or cluster_header in request mirror policy can be specified');
    return {
      cluster,
      clusterHeader: clusterHeader === '' ? undefined : headerName(clusterHeader),
      share: runtimeShare(runtime, message.runtimeFraction, 1),
      appendSuffix: !message.disableShadowHostSuffixAppend,
      hostRewrite: message.hostRewriteLiteral,
      edits: compileMutations(message.requestHeadersMutations, join(at, 'request_headers_mutations'), format),
    };
  });
}
