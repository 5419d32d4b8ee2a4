// Every bound of the proxy that no configuration message sets. Read by all parts of the engine.

/** Bytes of one request or response head when the configuration says nothing (Envoy: 60 KiB). */
export const DEFAULT_MAX_HEAD_BYTES = 60 * 1024;
/** A head leaves in one piece of the output arena, so no configuration may ask for more (Envoy: 8 MiB). */
export const HARD_MAX_HEAD_BYTES = 96 * 1024;
/** Headers in one head when the configuration says nothing (Envoy: 100). */
export const DEFAULT_MAX_HEADERS = 100;
export const HARD_MAX_HEADERS = 1_000;
/** Dynamic table of HPACK, bytes, when the configuration says nothing (RFC 7541). */
export const HEADER_TABLE_BYTES = 4096;
/** A header value longer than this is never put into the table of our HPACK encoder. */
export const MAX_INDEXED_VALUE_BYTES = 512;
/** The most a configuration may ask for (hpack_table_size). */
export const MAX_HEADER_TABLE_BYTES = 64 * 1024;
/** Bytes of one header block as it stands on the wire, CONTINUATION frames included, for each byte the fields may have. */
export const HEADER_BLOCK_FACTOR = 2;
/** HTTP/2 settings when the configuration says nothing. Envoy: 1024 streams, windows of 16 MiB and 24 MiB; ours bound what stands in memory. */
export const DEFAULT_H2_STREAMS = 1024;
export const DEFAULT_H2_STREAM_WINDOW = 256 * 1024;
export const DEFAULT_H2_CONNECTION_WINDOW = 16 * 1024 * 1024;
/** Streams we open on an upstream connection before its SETTINGS came. */
export const H2_STREAMS_BEFORE_SETTINGS = 100;
/** Response or request bytes of one HTTP/2 stream that wait for the peer's window before the other side is held back. */
export const H2_STREAM_HIGH_BYTES = 64 * 1024;
/** Frames of HTTP/2 that are collected before they are given to the socket, and such buffers kept for the next turn. */
export const H2_OUTPUT_BYTES = 64 * 1024;
export const MAX_SPARE_OUTPUTS = 16;
/** Flood protection of HTTP/2: Envoy's defaults, by its field names. */
export const DEFAULT_MAX_OUTBOUND_FRAMES = 10_000;
export const DEFAULT_MAX_OUTBOUND_CONTROL_FRAMES = 1_000;
export const DEFAULT_MAX_EMPTY_FRAMES = 1;
export const DEFAULT_MAX_PRIORITY_PER_STREAM = 100;
export const DEFAULT_MAX_WINDOW_UPDATES_PER_DATA = 10;
/** PING, SETTINGS, PRIORITY and unknown frames one peer may send within a second. */
export const MAX_CONTROL_FRAMES_PER_SECOND = 10_000;
/** Streams that a client resets within their first second: beyond half of all (of this many at least) its connection is closed. */
export const PREMATURE_RESET_STREAMS = 500;
export const PREMATURE_RESET_LIFETIME_MS = 1_000;
/** Streams closed lately whose late frames are told from nonsense. */
export const CLOSED_STREAMS_REMEMBERED = 128;
/** Header maps kept for the next messages. */
export const MAX_SPARE_HEADER_MAPS = 1_024;
/** Between the GOAWAY that announces the end and the one that means it, ms (Envoy's drain_timeout). */
export const DEFAULT_DRAIN_TIMEOUT_MS = 5_000;
/** Bytes of all trailers of a chunked body. */
export const MAX_TRAILER_BYTES = 8 * 1024;
/** Bytes of one chunk-size line, extensions included. */
export const MAX_CHUNK_LINE_BYTES = 256;
/** Requests a client may send ahead before their turn; beyond that the socket is not read. */
export const MAX_PIPELINED_BYTES = 64 * 1024;
/** One read from a socket. */
export const READ_BUFFER_BYTES = 64 * 1024;
/** One read of a byte pump whose peer takes everything at once. */
export const BULK_BUFFER_BYTES = 1024 * 1024;
/** Bytes of bulk reads that wait for slow peers, over all connections; beyond that nobody reads in bulk. */
export const MAX_BULK_WAITING_BYTES = 64 * 1024 * 1024;
/** Output that several small writes of one turn share. */
export const OUTPUT_ARENA_BYTES = 256 * 1024;
/** Request body that filters keep for one request while it is stopped (Envoy: the connection's buffer limit, 1 MiB). */
export const MAX_FILTER_BODY_BYTES = 16 * 1024 * 1024;
/** Counters that one RBAC filter keeps by policy (track_per_rule_stats). */
export const MAX_POLICY_COUNTERS = 10_000;
/** Request body kept for another try; a larger body makes the request not retriable. */
export const MAX_RETRY_BODY_BYTES = 1024 * 1024;
/** Response bytes that fault injection keeps to send later; then the upstream is not read. */
export const MAX_THROTTLED_BYTES = 256 * 1024;
/** Methods that one grpc_stats filter counts by name; names come from clients. */
export const MAX_GRPC_METHODS = 1_000;
/** A refused connection whose client says nothing is closed after this, ms. */
export const REFUSED_CONNECTION_MS = 60_000;
/** A ClientHello larger than this is not TLS we speak (Envoy: 16 KiB). */
export const MAX_CLIENT_HELLO_BYTES = 16 * 1024;
/** Bytes the HTTP inspector looks at before it gives up (Envoy: 64 KiB). */
export const MAX_HTTP_INSPECT_BYTES = 8 * 1024;
/** Certificates of one path, and of one chain or bundle that is configured. */
export const MAX_CHAIN_CERTIFICATES = 10;
export const MAX_PEM_CERTIFICATES = 1_000;
/** Entries of one certificate revocation list. */
export const MAX_CRL_ENTRIES = 100_000;
/** Plain text of one read of the direct TLS transport, shared by all connections. */
export const TLS_PLAIN_BUFFER_BYTES = 256 * 1024;
/** Answers to a TLS peer (key updates) that it does not take, before the connection is cut. */
export const MAX_TLS_CONTROL_BACKLOG_BYTES = 64 * 1024;
/** A TLS session can be resumed this long, s (Envoy's default for session_timeout). */
export const TLS_SESSION_TIMEOUT_S = 7_200;
/** Certificates a peer may send in a handshake. A session that is kept keeps them. */
export const MAX_PEER_CERTIFICATE_BYTES = 32 * 1024;
/** Sessions one downstream TLS context keeps for clients that come again, for each certificate; the oldest go first. */
export const MAX_SERVER_SESSIONS = 1_024;
/** Sessions one upstream TLS context remembers, over all its hosts. */
export const MAX_CLIENT_SESSIONS = 1_000;
/** Sessions for one host and server name, whatever max_session_keys asks for. */
export const MAX_SESSION_KEYS = 16;
/** Peer certificates whose facts are remembered. */
export const MAX_PEER_CERTIFICATES = 1_000;
/** Peers whose issuers expire before they do, whose sessions must end early. */
export const MAX_EARLY_ENDS = 1_000;
/** Time for a TLS handshake, ms (transport_socket_connect_timeout overrides). */
export const TLS_HANDSHAKE_TIMEOUT_MS = 15_000;
/** Envoy's default for listener_filters_timeout, ms. */
export const DEFAULT_LISTENER_FILTERS_TIMEOUT_MS = 15_000;
/** Envoy's default for cluster connect_timeout, ms. */
export const DEFAULT_CONNECT_TIMEOUT_MS = 5_000;
/** Idle upstream connections are closed after this, ms (Envoy: 1 h). */
export const DEFAULT_UPSTREAM_IDLE_MS = 3_600_000;
/** Idle downstream HTTP connections are closed after this, ms (Envoy: 1 h). */
export const DEFAULT_DOWNSTREAM_IDLE_MS = 3_600_000;
/** tcp_proxy idle timeout when none is given, ms (Envoy: 1 h). */
export const DEFAULT_TCP_IDLE_MS = 3_600_000;
/** route.timeout when the field is absent, ms (Envoy: 15 s). */
export const DEFAULT_ROUTE_TIMEOUT_MS = 15_000;
/** From the first byte of a request's head to its last, ms: a client that trickles one must not hold a connection for ever. */
export const REQUEST_HEAD_TIMEOUT_MS = 60_000;
/** HCM stream_idle_timeout when the field is absent, ms (Envoy: 5 min). */
export const DEFAULT_STREAM_IDLE_MS = 300_000;
/** How long a local reply that ends a connection may take to leave, ms (Envoy delayed_close_timeout). */
export const DELAYED_CLOSE_MS = 1_000;
/** Circuit breakers when the cluster says nothing (Envoy: 1024, retries 3). */
export const DEFAULT_MAX_CONNECTIONS = 1024;
export const DEFAULT_MAX_PENDING = 1024;
export const DEFAULT_MAX_REQUESTS = 1024;
export const DEFAULT_MAX_RETRIES = 3;
/** Envoy's defaults of a retry budget. */
export const DEFAULT_RETRY_BUDGET_PERCENT = 20;
export const DEFAULT_MIN_RETRY_CONCURRENCY = 3;
/** Hosts an ORIGINAL_DST cluster remembers; the oldest idle one is forgotten first. */
export const MAX_ORIGINAL_DST_HOSTS = 4_096;
/** Retry back-off when the policy says nothing, ms. */
export const RETRY_BASE_MS = 25;
export const RETRY_MAX_MS = 250;
/** Access log: bytes waiting for the disk before lines are dropped. */
/** Longest wait that an upstream's reset header may ask for when the policy says nothing, ms (Envoy: 300 s). */
export const RETRY_RATE_LIMITED_MAX_MS = 300_000;
/** Access log: bytes waiting for the disk before lines are dropped, and the size that forces a flush. */
export const MAX_LOG_BACKLOG_BYTES = 1024 * 1024;
/** Workers: how long their numbers are waited for, their end is waited for, and one that died waits to be started anew, ms. */
export const WORKER_NUMBERS_MS = 2_000;
export const WORKER_STOP_MS = 3_000;
export const WORKER_RESTART_BASE_MS = 100;
export const WORKER_RESTART_MAX_MS = 10_000;
/** Names whose last answer of DNS is kept for workers. */
export const MAX_DNS_ANSWERS = 10_000;
/**
 * Outcomes of exchanges that a worker reports to the main thread: how long successes are counted together, ms, entries of a
 * message, and messages that the main thread has not taken yet. One is under way as a rule; full ones wait for no other.
 */
export const OUTCOME_REPORT_MS = 100;
export const MAX_OUTCOME_RUNS = 10_000;
export const MAX_OUTCOME_MESSAGES = 10;
/** Lines are collected in blocks of this size; a line longer than the other is dropped. */
export const LOG_BLOCK_BYTES = 68 * 1024;
export const MAX_LOG_LINE_BYTES = 1024 * 1024;
/** One gRPC message of the control plane. */
export const MAX_XDS_MESSAGE_BYTES = 64 * 1024 * 1024;
/** Messages of one gRPC call that wait for its connection. */
export const MAX_GRPC_WAITING_BYTES = 4 * 1024 * 1024;
/** Reconnect to the control plane, ms. */
export const XDS_BACKOFF_BASE_MS = 500;
export const XDS_BACKOFF_MAX_MS = 30_000;
/** Discovery requests a stream may send at once and a second, where rate_limit_settings leave it open (Envoy's values). */
export const XDS_RATE_TOKENS = 100;
export const XDS_RATE_FILL_PER_S = 10;
/** Resources of one type held at a time; an answer that would go over it is refused. */
export const MAX_XDS_RESOURCES = 50_000;
/** One file of a filesystem subscription. */
export const MAX_XDS_FILE_BYTES = 64 * 1024 * 1024;
/** Hosts a route table remembers from on-demand discovery (VHDS), and requests that wait for one. */
export const MAX_ON_DEMAND_HOSTS = 10_000;
export const MAX_ON_DEMAND_WAITING = 1_024;
/** Names that a table remembers to have no host: clients make them up, and the oldest makes room. */
export const MAX_ON_DEMAND_ABSENT = 1_024;
/** Envoy's default for initial_fetch_timeout, ms. */
export const DEFAULT_INITIAL_FETCH_MS = 15_000;
/** Label sets of one Istio metric; further ones are counted in `istio_stats.dropped_series`. */
export const MAX_METRIC_SERIES = 20_000;
/** Last parts of statistics' names of which all owners hold one string; further ones have a string each. */
export const MAX_SHARED_STAT_LEAVES = 4_096;
/** Peer metadata (x-envoy-peer-metadata): bytes of the header value, and peers remembered. */
export const MAX_PEER_METADATA_BYTES = 16 * 1024;
export const MAX_PEER_CACHE = 1_000;
/** Body of a direct_response (Envoy: 4 KiB default, Istio allows 1 MiB). */
export const MAX_DIRECT_RESPONSE_BYTES = 1024 * 1024;
/** Default of STRICT_DNS and LOGICAL_DNS refresh, ms. */
export const DEFAULT_DNS_REFRESH_MS = 5_000;
/** DNS caches of dynamic forward proxies (Envoy's defaults): refresh, life of an unused name and time for an answer, ms. */
export const DEFAULT_DNS_CACHE_REFRESH_MS = 60_000;
export const DEFAULT_DNS_HOST_TTL_MS = 300_000;
export const DEFAULT_DNS_QUERY_TIMEOUT_MS = 5_000;
/** Names in one such cache, and requests that wait for a name. */
export const DEFAULT_MAX_DNS_HOSTS = 1_024;
export const DEFAULT_MAX_DNS_PENDING = 1_024;
/** A name is not asked for again before this, whatever its time to live, ms. */
export const MIN_DNS_TTL_MS = 1_000;
/** Addresses taken from one DNS answer. */
export const MAX_DNS_ADDRESSES = 256;
/** Runtime: values a layer may hold, bytes of one file, directories below each other. */
export const MAX_RUNTIME_KEYS = 10_000;
export const MAX_RUNTIME_FILE_BYTES = 64 * 1024;
export const MAX_RUNTIME_DEPTH = 16;
/** Nodes of a YAML configuration, aliases counted as often as they are used. */
export const MAX_YAML_NODES = 2_000_000;
export const MAX_YAML_DEPTH = 256;
/** Of a body of the admin interface, which stops the thread while it is read. */
export const MAX_ADMIN_YAML_NODES = 100_000;
/** Messages inside messages in the text format of protobuf. */
export const MAX_TEXT_PROTO_DEPTH = 100;
/** Bytes of a bootstrap file or of --config-yaml. */
export const MAX_BOOTSTRAP_BYTES = 64 * 1024 * 1024;
/** Envoy's defaults of outlier detection, ms. */
export const DEFAULT_OUTLIER_INTERVAL_MS = 10_000;
export const DEFAULT_BASE_EJECTION_MS = 30_000;
export const DEFAULT_MAX_EJECTION_MS = 300_000;
/** Interval of health checks while a cluster has no traffic (Envoy's), ms. */
export const DEFAULT_NO_TRAFFIC_MS = 60_000;
/** Bytes of a health check's answer that are looked at: Envoy's default, and the most there may be. */
export const DEFAULT_HEALTH_RESPONSE_BYTES = 1_024;
export const MAX_HEALTH_RESPONSE_BYTES = 64 * 1024;
/** Subsets one selector may make; hosts of further values are in none. */
export const MAX_SUBSETS = 10_000;
/** Load balancing policies inside others (subset, wrr_locality). */
export const MAX_LB_POLICY_DEPTH = 4;
/** Entries of ring and Maglev table: defaults and bounds are Envoy's. */
export const DEFAULT_MIN_RING = 1_024;
export const DEFAULT_MAX_RING = 8 * 1024 * 1024;
export const MAX_RING = 8 * 1024 * 1024;
export const DEFAULT_MAGLEV_TABLE = 65_537;
export const MAX_MAGLEV_TABLE = 5_000_011;
/** Envoy's default for common_lb_config.healthy_panic_threshold, percent. */
export const DEFAULT_PANIC_THRESHOLD = 50;
/** Envoy's default for common_lb_config.update_merge_window, ms. */
export const DEFAULT_MERGE_WINDOW_MS = 1_000;
/** Assignments whose endpoints are remembered to decode the next one faster. */
export const MAX_REMEMBERED_ASSIGNMENTS = 4_096;
/** Highest priority of endpoints (Envoy's bound). */
export const MAX_PRIORITY = 128;
/** Between two addresses of one endpoint that are tried (Envoy's), ms. */
export const HAPPY_EYEBALLS_DELAY_MS = 300;
/** Envoy's default for cleanup_interval of ORIGINAL_DST, ms. */
export const DEFAULT_CLEANUP_MS = 5_000;
/** stats_flush_interval when the bootstrap says nothing, ms (Envoy: 5 s). */
export const DEFAULT_STATS_FLUSH_MS = 5_000;
/** Longest timeout that a request's own header may ask for, ms (a day). */
export const MAX_STEERED_MS = 86_400_000;
/** Entries taken from a list in a header that steers retries. */
export const MAX_STEERED_HEADERS = 32;
/** Names that callers may give to statistics of one cluster (x-envoy-upstream-alt-stat-name). */
export const MAX_ALT_STAT_NAMES = 100;
/** Body of a request kept for one mirror whose upstream is not ready for it; beyond that the mirror is given up. */
export const MAX_MIRROR_BACKLOG_BYTES = 256 * 1024;
/** Characters of one value that a log format with a length prints, and levels of a JSON format. */
export const MAX_LOG_VALUE_CHARS = 65_536;
export const MAX_LOG_DEPTH = 32;
/** One CEL expression: its text, the nodes and levels of its syntax tree, and the characters it may print. */
export const MAX_CEL_CHARS = 4_096;
export const MAX_CEL_NODES = 1_000;
export const MAX_CEL_DEPTH = 64;
export const MAX_CEL_RESULT_CHARS = 65_536;
/** Instructions of a pattern in such an expression (Envoy's number). */
export const MAX_CEL_PATTERN_SIZE = 100;
/** Bytes of a head that edits and rewrites may make: a larger one is not sent (it has to fit the output arena whole). */
export const MAX_EDITED_HEAD_BYTES = 100 * 1024;
/** Kept-alive connections one request may find closed by their server before it counts as a failure. */
export const MAX_STALE_CONNECTIONS = 8;
/** Body of a request to the admin interface. */
export const MAX_ADMIN_BODY_BYTES = 64 * 1024;
/** Longest profile, ms: then it ends by itself and is kept until it is asked for. */
export const MAX_PROFILE_MS = 600_000;
/** Stacks of one thread in a profile: the largest ones. */
export const MAX_PROFILE_SAMPLES = 10_000;
/** One allocation in so many bytes is noted while memory is profiled. */
export const HEAP_SAMPLE_BYTES = 64 * 1024;
/** Names of statistics remembered for /stats/recentlookups (Envoy's number). */
export const MAX_RECENT_LOOKUPS = 100;
/** Bytes of one body that a tap may show, and of all bodies kept for traces of one thread that are not finished. */
export const MAX_TAP_BODY_BYTES = 1024 * 1024;
export const MAX_TAP_HELD_BYTES = 16 * 1024 * 1024;
/** Traces that a tap may collect before it shows them. */
export const MAX_TAP_TRACES = 1_000;
/** Traces collected, or on their way from a worker, in characters. */
export const MAX_TAP_BACKLOG_CHARS = 4 * 1024 * 1024;
/** Pieces of one request that wait until it is known whether it is shown: the oldest go. */
export const MAX_TAP_SEGMENTS = 64;
/** How long the connection that is made before the first client may last, ms. */
export const REHEARSAL_MS = 1_000;
