// The admin's kubeconfig file. Called by server.ts.
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { stringify } from 'yaml';
import type { KeyAndCertificate } from './pki.ts';

/** Context, cluster and user. */
const NAME = 'meltemi';

export function writeKubeconfigFile(path: string, server: string, caPem: string, credentials: KeyAndCertificate): void {
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  const text = stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: NAME, cluster: { server, 'certificate-authority-data': base64(caPem) } }],
    contexts: [{ name: NAME, context: { cluster: NAME, user: NAME } }],
    'current-context': NAME,
    preferences: {},
    users: [
      {
        name: NAME,
        user: { 'client-certificate-data': base64(credentials.certPem), 'client-key-data': base64(credentials.keyPem) },
      },
    ],
  });
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.new`, text, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}
