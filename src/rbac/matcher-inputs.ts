// What a unified matcher can look at: one text of the request or connection. Called by matcher-tree.ts.
import type { DescMessage } from '@bufbuild/protobuf';
import {
  ApplicationProtocolInputSchema,
  DestinationIPInputSchema,
  DestinationPortInputSchema,
  DirectSourceIPInputSchema,
  FilterStateInputSchema,
  ServerNameInputSchema,
  SourceIPInputSchema,
  SourcePortInputSchema,
  SourceTypeInputSchema,
  TransportProtocolInputSchema,
} from '#proto/envoy/extensions/matching/common_inputs/network/v3/network_inputs_pb.js';
import {
  DnsSanInputSchema,
  SubjectInputSchema,
  UriSanInputSchema,
} from '#proto/envoy/extensions/matching/common_inputs/ssl/v3/ssl_inputs_pb.js';
import {
  HttpRequestHeaderMatchInputSchema,
  HttpRequestQueryParamMatchInputSchema,
} from '#proto/envoy/type/matcher/v3/http_inputs_pb.js';
import type { TypedExtensionConfig } from '#proto/xds/core/v3/extension_pb.js';
import { buildExtension, type Extension, extension } from '../base/envoy-api/extension.ts';
import { ConfigError, join } from '../base/envoy-api/fields.ts';
import { isLoopback } from '../base/ip/ip.ts';
import { headerAttribute } from './attributes.ts';
import type { Facts } from './facts.ts';

/** Undefined = not there: no predicate on it holds. */
export type Input = (facts: Facts) => string | undefined;

const text = (value: string): string | undefined => (value === '' ? undefined : value);

const INPUTS: readonly Extension<undefined, Input>[] = [
  extension(HttpRequestHeaderMatchInputSchema, (message, _context, path): Input => {
    if (message.headerName === '') throw new ConfigError(join(path, 'header_name'), 'value is required');
    const attribute = headerAttribute(message.headerName, false);
    return (facts) => {
      const value = attribute.read(facts);
      return typeof value === 'string' ? value : value?.join(',');
    };
  }),
  extension(HttpRequestQueryParamMatchInputSchema, (message, _context, path): Input => {
    const name = message.queryParam;
    if (name === '') throw new ConfigError(join(path, 'query_param'), 'value is required');
    return (facts) => (facts.http ? queryValue(facts.path, name) : undefined);
  }),
  extension(DestinationIPInputSchema, (): Input => (facts) => text(facts.destination.ip)),
  extension(DestinationPortInputSchema, (): Input => (facts) => String(facts.destination.port)),
  // For HTTP the address is the trusted client's, as in Envoy.
  extension(SourceIPInputSchema, (): Input => (facts) => text(facts.remote.ip)),
  extension(SourcePortInputSchema, (): Input => (facts) => String(facts.remote.port)),
  extension(DirectSourceIPInputSchema, (): Input => (facts) => text(facts.direct.ip)),
  extension(SourceTypeInputSchema, (): Input => (facts) => (isLocal(facts) ? 'local' : undefined)),
  extension(ServerNameInputSchema, (): Input => (facts) => text(facts.serverName)),
  extension(TransportProtocolInputSchema, (): Input => (facts) => text(facts.transportProtocol)),
  extension(
    ApplicationProtocolInputSchema,
    (): Input => (facts) =>
      facts.applicationProtocols.length === 0
        ? undefined
        : facts.applicationProtocols.map((name) => `'${name}'`).join(','),
  ),
  extension(FilterStateInputSchema, (message, _context, path): Input => {
    if (message.key === '') throw new ConfigError(join(path, 'key'), 'value is required');
    return (facts) => facts.filterState(message.key);
  }),
  extension(UriSanInputSchema, (): Input => (facts) => proved(facts, facts.peerUris)),
  extension(DnsSanInputSchema, (): Input => (facts) => proved(facts, facts.peerDns)),
  extension(SubjectInputSchema, (): Input => (facts) => (facts.peerVerified ? text(facts.peerSubject) : undefined)),
];

/** What may stand as an input in a configuration. */
export const INPUT_TYPES: readonly DescMessage[] = INPUTS.map(({ schema }) => schema);

export function compileInput(message: TypedExtensionConfig | undefined, path: string): Input {
  if (!message) throw new ConfigError(path, 'value is required');
  return buildExtension(INPUTS, message.typedConfig, message.name, undefined, path);
}

function proved(facts: Facts, names: readonly string[]): string | undefined {
  return facts.peerVerified && names.length > 0 ? names.join(',') : undefined;
}

function isLocal(facts: Facts): boolean {
  return isLoopback(facts.remote.ip) || facts.remote.ip === facts.destination.ip;
}

/** The first value of `name`, percent-decoded where it is well-formed. */
function queryValue(path: string, name: string): string | undefined {
  const mark = path.indexOf('?');
  if (mark < 0) return undefined;
  return new URLSearchParams(path.slice(mark + 1)).get(name) ?? undefined;
}
