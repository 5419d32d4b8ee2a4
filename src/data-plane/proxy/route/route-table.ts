// A RouteConfiguration compiled: host → virtual host → first matching route. Immutable; RDS swaps the whole table.
import type { VirtualHost } from '#proto/envoy/config/route/v3/route_components_pb.js';
import { type RouteConfiguration, RouteConfigurationSchema } from '#proto/envoy/config/route/v3/route_pb.js';
import { metadataOf } from '../cluster/endpoints.ts';
import type { Metadata } from '../cluster/host.ts';
import { join, only } from '../config/fields.ts';
import { type HeaderName, headerName } from '../http/header-map.ts';
import { H } from '../http/names.ts';
import type { CompiledRoute, CompiledVirtualHost, RouteContext } from './compiled.ts';
import { DomainIndex } from './domains.ts';
import type { RequestView } from './matchers.ts';
import { compileVirtualHost } from './virtual-host.ts';

export type {
  CompiledRoute,
  CompiledVirtualHost,
  PerFilterBuilder,
  RouteContext,
  RouteDeps,
  VirtualCluster,
} from './compiled.ts';

/** Virtual hosts that stay when others come (VHDS). */
export interface HostMemory {
  readonly compiled: WeakMap<VirtualHost, CompiledVirtualHost>;
  contextOf(host: VirtualHost, context: RouteContext, path: string): RouteContext;
}

export class RouteTable {
  readonly name: string;
  readonly message: RouteConfiguration;
  readonly metadata: Metadata;
  /** Removed from requests that come from outside. */
  readonly internalOnly: readonly HeaderName[];
  readonly #domains: DomainIndex<CompiledVirtualHost>;
  readonly #ignorePort: boolean;
  readonly #vhostHeader: HeaderName | undefined;

  /** `memory`: of tables with the same message but other virtual hosts, what was compiled before. */
  constructor(message: RouteConfiguration, context: RouteContext, path: string, memory?: HostMemory) {
    only(RouteConfigurationSchema, message, path, [
      'name',
      'virtual_hosts',
      'internal_only_headers',
      'response_headers_to_add',
      'response_headers_to_remove',
      'request_headers_to_add',
      'request_headers_to_remove',
      'most_specific_header_mutations_wins',
      'validate_clusters',
      'max_direct_response_body_size_bytes',
      'request_mirror_policies',
      'ignore_port_in_host_matching',
      'ignore_path_parameters_in_path_matching',
      'typed_per_filter_config',
      'metadata',
      'vhds',
      'vhost_header',
    ]);
    this.name = message.name;
    this.message = message;
    this.metadata = metadataOf(message.metadata);
    this.internalOnly = message.internalOnlyHeaders.map(headerName);
    this.#ignorePort = message.ignorePortInHostMatching;
    this.#vhostHeader = message.vhostHeader === '' ? undefined : headerName(message.vhostHeader);
    this.#domains = new DomainIndex(message.name);
    for (const [i, host] of message.virtualHosts.entries()) {
      const at = join(path, `virtual_hosts[${i}]`);
      let compiled = memory?.compiled.get(host);
      if (!compiled) {
        compiled = compileVirtualHost(host, message, memory?.contextOf(host, context, at) ?? context, at);
        memory?.compiled.set(host, compiled);
      }
      for (const domain of host.domains) this.#domains.add(domain, compiled, at);
    }
  }

  /** The first route that matches; `random` in [0, 1) decides runtime fractions. Undefined = no route. */
  find(request: RequestView, random: () => number): CompiledRoute | undefined {
    const host = this.hostOf(request);
    if (!host) return undefined;
    if (host.tlsRedirect && request.scheme !== 'https' && mustUseTls(host, request)) return host.tlsRedirect;
    return host.routes.find(request, random);
  }

  /** The virtual host of a request: by its authority, or by the header that stands for it. */
  hostOf({ authority, headers }: Pick<RequestView, 'authority' | 'headers'>): CompiledVirtualHost | undefined {
    if (!this.#vhostHeader) return this.findHost(authority);
    const name = headers.get(this.#vhostHeader);
    return name === undefined ? undefined : this.findHost(name);
  }

  findHost(authority: string): CompiledVirtualHost | undefined {
    let host = authority.toLowerCase();
    if (this.#ignorePort) {
      const colon = host.lastIndexOf(':');
      // A colon inside brackets is no port.
      if (colon > 0 && host.indexOf(']', colon) < 0) host = host.slice(0, colon);
    }
    return this.#domains.find(host);
  }
}

function mustUseTls(host: CompiledVirtualHost, request: RequestView): boolean {
  return host.requireTls === 'all' || request.headers.get(H.envoyInternal) !== 'true';
}
