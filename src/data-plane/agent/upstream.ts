// The gRPC connection to istiod: trust read from the mounted root, a fresh token for every call, rebuilt after an error.
// Used by the CA client, the xDS relay and the debug port.
import { type ChannelOptions, Client, type ClientOptions, credentials, Metadata } from '@grpc/grpc-js';

/** The largest xDS answer taken from istiod. */
export const MAX_XDS_MESSAGE_BYTES = 128 * 1024 * 1024;
const KEEPALIVE_MS = 30_000;
const KEEPALIVE_TIMEOUT_MS = 10_000;

export interface UpstreamOptions {
  /** `host:port`; port 15010 is plaintext. */
  readonly address: string;
  /** The name the server's certificate must carry; the host of the address when absent. */
  readonly serverName?: string;
  /** PEM; undefined means the system's roots. Rejects when the file is not there. */
  readonly roots: () => Promise<string | undefined>;
  /** The projected token; undefined when there is none. */
  readonly token: () => Promise<string | undefined>;
  readonly clusterId: string;
  /** Further headers: `CA_HEADER_*`, `XDS_HEADER_*`. */
  readonly headers: Readonly<Record<string, string>>;
}

export interface Upstream {
  /** The current connection. Rejects when the roots cannot be read. */
  client(): Promise<Client>;
  /** Credentials and names for one call, read now. */
  metadata(): Promise<Metadata>;
  /** Drops the connection: the next call reads the roots again. */
  reset(): void;
  close(): void;
}

export function createUpstream(options: UpstreamOptions): Upstream {
  let current: Promise<Client> | undefined;
  const plaintext = options.address.endsWith(':15010');
  const connect = async (): Promise<Client> => {
    const channel: ClientOptions & ChannelOptions = {
      'grpc.max_receive_message_length': MAX_XDS_MESSAGE_BYTES,
      'grpc.max_send_message_length': MAX_XDS_MESSAGE_BYTES,
      'grpc.keepalive_time_ms': KEEPALIVE_MS,
      'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
      'grpc.enable_retries': 0,
      // A proxy of the environment must not see the token.
      'grpc.enable_http_proxy': 0,
      // Each connection its own: after a root change no old one may be shared.
      'grpc.use_local_subchannel_pool': 1,
    };
    if (plaintext) return new Client(options.address, credentials.createInsecure(), channel);
    const roots = await options.roots();
    const ssl = credentials.createSsl(roots === undefined ? null : Buffer.from(roots));
    const name = options.serverName;
    return new Client(options.address, ssl, {
      ...channel,
      ...(name === undefined ? {} : { 'grpc.ssl_target_name_override': name, 'grpc.default_authority': name }),
    });
  };
  const reset = (): void => {
    current?.then((client) => client.close()).catch(() => {});
    current = undefined;
  };
  return {
    client() {
      const made = current ?? connect();
      current = made;
      made.catch(() => {
        if (current === made) current = undefined;
      });
      return made;
    },
    async metadata() {
      const metadata = new Metadata();
      const token = await options.token();
      if (token !== undefined) metadata.set('authorization', `Bearer ${token}`);
      metadata.set('ClusterID', options.clusterId);
      for (const [name, value] of Object.entries(options.headers)) metadata.set(name, value);
      return metadata;
    },
    reset,
    close: reset,
  };
}
