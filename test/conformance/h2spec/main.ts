// `npm run h2spec [-- SECTION…]`: all of the public h2spec (generic, http2, hpack, strict) against a listener of the embedded
// proxy, plain and over TLS. Builds h2spec from its Go module: needs Go 1.19 or later (Debian: apt-get install golang-go).
import { spawn } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  bootstrap,
  commonTls,
  createCa,
  hcm,
  listener,
  routes,
  serverTls,
  startApp,
  startEngine,
  staticCluster,
  toCluster,
} from '../../../src/data-plane/proxy/testing/engine.ts';
import { buildH2spec } from './build.ts';

const sections = process.argv.slice(2);

/** Runs the suite; its report goes to the terminal. */
function runSuite(program: string, port: number, kind: 'plain' | 'tls'): Promise<number | null> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, [String(port), kind, ...sections], { stdio: 'inherit' });
    child.on('error', reject);
    child.on('close', resolve);
  });
}

async function startProxy(t: TestContext): Promise<{ readonly plain: number; readonly tls: number }> {
  // The answer waits for the whole request, as most servers do: the suite looks at what happens on the way.
  const app = await startApp(t, 'hello');
  const ca = await createCa();
  const identity = await ca.issue('spiffe://cluster.local/ns/a/sa/a');
  const tls = serverTls({ ...commonTls(identity, ca.pem, []), validation_context: {}, alpn_protocols: ['h2'] });
  const chain = { filters: [hcm(routes([toCluster('app')]), { codec_type: 'HTTP2' })] };
  const proxy = await startEngine(
    t,
    bootstrap(
      [
        listener('plain', [chain]),
        listener('tls', [
          {
            ...chain,
            transport_socket: {
              ...tls,
              typed_config: { ...(tls.typed_config as object), require_client_certificate: false },
            },
          },
        ]),
      ],
      [staticCluster('app', [app.port])],
    ),
  );
  return { plain: proxy.port('plain'), tls: proxy.port('tls') };
}

const program = await buildH2spec();
if (program === undefined) {
  process.stderr.write('h2spec needs Go 1.19 or later (Debian: apt-get install golang-go)\n');
  process.exitCode = 2;
} else {
  const folder = dirname(program);
  test('h2spec against the listener', async (t) => {
    t.after(() => rm(folder, { recursive: true, force: true }));
    const ports = await startProxy(t);
    for (const kind of ['plain', 'tls'] as const)
      await t.test(kind, async (part) => part.assert.strictEqual(await runSuite(program, ports[kind], kind), 0));
  });
}
