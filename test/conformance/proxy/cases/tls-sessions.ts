// TLS sessions: taken up again by version, refused where the configuration forbids it or another rule stands, and what the
// statistics say. In code because a session must be carried from one connection to the next.
import { type ConnectionOptions, connect } from 'node:tls';
import type { Case } from '../format.ts';
import type { Live } from '../live.ts';

interface Visit {
  readonly ok: boolean;
  readonly resumed: boolean;
  readonly session: Buffer | undefined;
}

/** One request over one connection, with a session of an earlier one. */
function visit(live: Live, options: ConnectionOptions, listener = 'in'): Promise<Visit> {
  return new Promise((resolve) => {
    const socket = connect({
      port: live.port(listener),
      host: '127.0.0.1',
      servername: 'test.example',
      rejectUnauthorized: false,
      cert: live.pem('cert.client'),
      key: live.pem('key.client'),
      ...options,
    });
    let session: Buffer | undefined;
    let resumed = false;
    let over = false;
    const finish = (ok: boolean): void => {
      if (over) return;
      over = true;
      socket.destroy();
      resolve({ ok, resumed, session });
    };
    socket.on('session', (bytes) => {
      session = bytes;
    });
    socket.on('secureConnect', () => {
      resumed = socket.isSessionReused();
      if (socket.getProtocol() === 'TLSv1.2') session = socket.getSession();
      socket.write('GET / HTTP/1.1\r\nhost: test.example\r\n\r\n');
    });
    socket.on('data', () => finish(true));
    socket.on('error', () => finish(false));
    socket.on('close', () => finish(false));
  });
}

/** What the runner puts the path of a file in for. */
const named = (name: string): string => `\u0024{${name}}`;

const mutual = {
  require_client_certificate: true,
  common_tls_context: { validation_context: { trusted_ca: { filename: named('ca.root') } } },
};

async function twice(live: Live, options: ConnectionOptions, expected: boolean): Promise<void> {
  const first = await visit(live, options);
  const second = await visit(live, { ...options, ...(first.session ? { session: first.session } : {}) });
  live.note('first', `${first.ok} ${first.resumed}`);
  live.note('second', `${second.ok} ${second.resumed}`);
  live.expect(first.ok && second.ok && !first.resumed, 'both connections serve, the first in full');
  live.expect(second.resumed === expected, `the second is ${expected ? '' : 'not '}resumed`);
}

export const cases: Case[] = [
  ...(['TLSv1.2', 'TLSv1.3'] as const).map(
    (version): Case => ({
      name: `a session of ${version} is taken up again, and the client is still known`,
      config: {
        tls: mutual,
        hcm: { forward_client_cert_details: 'SANITIZE_SET', set_current_client_cert_details: { uri: true } },
      },
      live: async (live) => await twice(live, { minVersion: version, maxVersion: version }, true),
      stats: { 'listener.in.ssl.session_reused': 1, 'listener.in.ssl.handshake': 2 },
    }),
  ),
  ...(['TLSv1.2', 'TLSv1.3'] as const).map(
    (version): Case => ({
      name: `a session of ${version} knows the whole chain of the client`,
      config: {
        tls: {
          require_client_certificate: true,
          common_tls_context: { validation_context: { trusted_ca: { filename: named('ca.lists') } } },
        },
        hcm: {
          forward_client_cert_details: 'SANITIZE_SET',
          set_current_client_cert_details: { chain: true },
          access_log: [
            {
              name: 'file',
              typed_config: {
                '@type': 'envoy.extensions.access_loggers.file.v3.FileAccessLog',
                path: named('log'),
                log_format: {
                  text_format_source: {
                    inline_string: '%DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1% %DOWNSTREAM_PEER_ISSUER_SERIAL%\n',
                  },
                },
              },
            },
          ],
        },
      },
      log: [
        { matches: '^[0-9a-f]{40},[0-9a-f]{40} [0-9a-f]+$' },
        // The path to the root was not built anew.
        { matches: '^[0-9a-f]{40},[0-9a-f]{40} -$' },
      ],
      live: async (live) => {
        const { pem } = live;
        const client = { cert: pem('cert.deep'), key: pem('key.deep') };
        await twice(live, { ...client, minVersion: version, maxVersion: version }, true);
      },
      upstream: {
        app: Array.from({ length: 2 }, () => ({
          headers: {
            'x-forwarded-client-cert': { matches: 'Chain="(-----BEGIN[^-]*-----[^-]*-----END[^-]*-----%0A){2}"' },
          },
        })),
      },
    }),
  ),
  {
    name: 'no stateless sessions where they are forbidden',
    config: {
      tls: { ...mutual, disable_stateless_session_resumption: true, disable_stateful_session_resumption: true },
    },
    live: async (live) => await twice(live, { maxVersion: 'TLSv1.2' }, false),
    stats: { 'listener.in.ssl.session_reused': 0 },
  },
  {
    name: 'a session is worth nothing where other names are asked for, even under the same ticket keys',
    config: {
      listeners: {
        in: { tls: { ...mutual, session_ticket_keys: { keys: [{ filename: named('file.ticket.key') }] } } },
        strict: {
          tls: {
            require_client_certificate: true,
            session_ticket_keys: { keys: [{ filename: named('file.ticket.key') }] },
            common_tls_context: {
              validation_context: {
                trusted_ca: { filename: named('ca.root') },
                match_typed_subject_alt_names: [{ san_type: 'DNS', matcher: { exact: 'nobody' } }],
              },
            },
          },
        },
      },
    },
    files: { 'ticket.key': 'k'.repeat(80) },
    live: async (live) => {
      const first = await visit(live, { maxVersion: 'TLSv1.2' });
      const options = { maxVersion: 'TLSv1.2' as const, ...(first.session ? { session: first.session } : {}) };
      const again = await visit(live, options);
      const strict = await visit(live, options, 'strict');
      live.note('again', again.resumed);
      live.note('strict', `${strict.ok} ${strict.resumed}`);
      live.expect(again.resumed, 'the session works where it was made');
      live.expect(!strict.ok && !strict.resumed, 'and not at the strict listener');
    },
  },
  {
    name: 'ticket keys of the wrong length',
    config: { tls: { ...mutual, session_ticket_keys: { keys: [{ inline_string: 'short' }] } } },
    refused: 'Incorrect TLS session ticket key length. Length 5, expected length 80',
  },
];
