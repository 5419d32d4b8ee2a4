// Fields of Envoy's API that are newer than the copy inside @grpc/grpc-js-xds: numbers and types as the public API has
// them. Each is put behind the last of its anchors. Called by proto.ts.

interface NewerFields {
  readonly file: string;
  readonly imports?: readonly string[];
  /** Lines to look for one after the other, outermost first, and what to put after the last. */
  readonly fields: readonly (readonly [anchors: readonly string[], text: string])[];
}

export const NEWER_FIELDS: readonly NewerFields[] = [
  {
    file: 'envoy/config/route/v3/route_components.proto',
    imports: [
      'envoy/config/common/mutation_rules/v3/mutation_rules.proto',
      'envoy/config/core/v3/substitution_format_string.proto',
      'envoy/type/matcher/v3/filter_state.proto',
    ],
    fields: [
      [['message VirtualHost {'], 'google.protobuf.UInt64Value request_body_buffer_limit = 25;'],
      [['message Route {'], 'google.protobuf.UInt64Value request_body_buffer_limit = 20;'],
      [
        ['message WeightedCluster {', 'oneof random_value_specifier {'],
        'google.protobuf.BoolValue use_hash_policy = 5;',
      ],
      [
        ['message RouteMatch {'],
        'repeated CookieMatcher cookies = 17; repeated type.matcher.v3.FilterStateMatcher filter_state = 16;',
      ],
      [['message RouteAction {'], 'google.protobuf.Duration flush_timeout = 42; string path_rewrite = 45;'],
      [['message RouteAction {', 'oneof host_rewrite_specifier {'], 'string host_rewrite = 44;'],
      [
        ['message RouteAction {', 'message RequestMirrorPolicy {'],
        'repeated common.mutation_rules.v3.HeaderMutation request_headers_mutations = 7; string host_rewrite_literal = 8;',
      ],
      [['message DirectResponseAction {'], 'core.v3.SubstitutionFormatString body_format = 3;'],
      [
        ['option (udpa.annotations.file_status).package_version_status = ACTIVE;'],
        'message CookieMatcher { string name = 1; type.matcher.v3.StringMatcher string_match = 2; bool invert_match = 3; }',
      ],
    ],
  },
  {
    file: 'envoy/config/route/v3/route.proto',
    fields: [[['message RouteConfiguration {'], 'string vhost_header = 18;']],
  },
  {
    file: 'envoy/type/tracing/v3/custom_tag.proto',
    fields: [[['message CustomTag {', 'oneof type {'], 'string value = 6;']],
  },
  {
    file: 'envoy/config/rbac/v3/rbac.proto',
    fields: [
      [
        ['option (udpa.annotations.file_status).package_version_status = ACTIVE;'],
        `enum MetadataSource { DYNAMIC = 0; ROUTE = 1; }
message SourcedMetadata { type.matcher.v3.MetadataMatcher metadata_matcher = 1; MetadataSource metadata_source = 2; }`,
      ],
      [['message Permission {', 'oneof rule {'], 'SourcedMetadata sourced_metadata = 14;'],
      [
        ['message Principal {', 'oneof identifier {'],
        'SourcedMetadata sourced_metadata = 13; core.v3.TypedExtensionConfig custom = 14;',
      ],
    ],
  },
  {
    file: 'envoy/extensions/filters/network/rbac/v3/rbac.proto',
    imports: ['google/protobuf/duration.proto'],
    fields: [
      [
        ['message RBAC {', 'option (udpa.annotations.versioning)', ';'],
        'google.protobuf.Duration delay_deny = 8; bool enforce_on_transport_ready = 9;',
      ],
    ],
  },
  {
    file: 'envoy/extensions/filters/http/header_mutation/v3/header_mutation.proto',
    fields: [
      [
        ['message Mutations {'],
        `repeated config.common.mutation_rules.v3.HeaderMutation response_trailers_mutations = 4;
repeated config.common.mutation_rules.v3.HeaderMutation request_trailers_mutations = 5;`,
      ],
    ],
  },
  {
    file: 'envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit.proto',
    imports: ['envoy/config/route/v3/route_components.proto'],
    fields: [[['message LocalRateLimit {'], 'repeated config.route.v3.RateLimit rate_limits = 17;']],
  },
  {
    file: 'envoy/config/core/v3/proxy_protocol.proto',
    imports: ['envoy/config/core/v3/substitution_format_string.proto'],
    fields: [
      [
        ['option (udpa.annotations.file_status).package_version_status = ACTIVE;'],
        `message TlvEntry {
uint32 type = 1 [(validate.rules).uint32 = {lt: 256}]; bytes value = 2; SubstitutionFormatString format_string = 3; }`,
      ],
      [['message ProxyProtocolConfig {', 'Version version = 1;'], 'repeated TlvEntry added_tlvs = 3;'],
    ],
  },
  {
    file: 'envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.proto',
    fields: [
      [
        ['message TlsInspector {'],
        `google.protobuf.BoolValue enable_ja4_fingerprinting = 3; bool close_connection_on_client_hello_parsing_errors = 4;
google.protobuf.UInt32Value max_client_hello_size = 5 [(validate.rules).uint32 = {lte: 16384 gt: 255}];`,
      ],
    ],
  },
  {
    file: 'envoy/type/matcher/v3/filter_state.proto',
    imports: ['xds/core/v3/cidr.proto'],
    fields: [
      [
        ['option (udpa.annotations.file_status).package_version_status = ACTIVE;'],
        'message AddressMatcher { repeated xds.core.v3.CidrRange ranges = 1; }',
      ],
      [['message FilterStateMatcher {', 'option (validate.required) = true;'], 'AddressMatcher address_match = 3;'],
    ],
  },
];

/** `text` of a file with its newer fields. Throws when an anchor is gone. */
export function withNewerFields(entry: NewerFields, text: string): string {
  let out = text;
  for (const [anchors, added] of entry.fields) {
    let at = 0;
    for (const anchor of anchors) {
      const found = out.indexOf(anchor, at);
      if (found < 0) throw new Error(`${entry.file}: no '${anchor}' to put newer fields behind`);
      at = found + anchor.length;
    }
    out = `${out.slice(0, at)}\n${added}${out.slice(at)}`;
  }
  const imports = (entry.imports ?? []).filter((name) => !out.includes(`import "${name}"`));
  return out.replace(/^import /m, `${imports.map((name) => `import "${name}";\n`).join('')}import `);
}
