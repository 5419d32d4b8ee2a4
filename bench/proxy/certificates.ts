// Certificates of the bench: a root and two workload identities (ECDSA P-256, as a mesh issues them), as PEM files.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { createCa } from '../../src/data-plane/proxy/testing/engine.ts';

export interface CertificateFiles {
  readonly ca: string;
  readonly serverCertificate: string;
  readonly serverKey: string;
  readonly clientCertificate: string;
  readonly clientKey: string;
  /** Certificate and key in one file, as HAProxy wants them. */
  readonly serverBoth: string;
  readonly clientBoth: string;
}

export async function makeCertificates(folder: string): Promise<CertificateFiles> {
  const ca = await createCa();
  const server = await ca.issue('spiffe://cluster.local/ns/bench/sa/server');
  const client = await ca.issue('spiffe://cluster.local/ns/bench/sa/client');
  const write = (name: string, text: string): string => {
    const file = path.join(folder, name);
    writeFileSync(file, text, { mode: 0o600 });
    return file;
  };
  return {
    ca: write('ca.pem', ca.pem),
    serverCertificate: write('server.pem', server.certificate),
    serverKey: write('server.key', server.key),
    clientCertificate: write('client.pem', client.certificate),
    clientKey: write('client.key', client.key),
    serverBoth: write('server-both.pem', `${server.certificate}\n${server.key}`),
    clientBoth: write('client-both.pem', `${client.certificate}\n${client.key}`),
  };
}
