// The certificates cases name (`${cert.server}`, `${key.server}`, `${ca.root}`), made anew for each run. Called by the runner.
import { createPublicKey, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { certificatePem, type Issuer, issueLeaf, issueRoot } from '../../../src/base/x509/certificate.ts';
import { altName } from '../../../src/base/x509/extensions.ts';
import { generateKey, type KeyKind, writePrivateKey } from '../../../src/base/x509/keys.ts';
import { createRoot } from '../../../src/data-plane/proxy/testing/pki.ts';

const HOUR = 3_600_000;

interface Leaf {
  readonly ca: 'root' | 'other';
  readonly names: readonly string[];
  readonly kind?: KeyKind;
  readonly from?: number;
  readonly ttl?: number;
}

const LEAVES: Readonly<Record<string, Leaf>> = {
  server: { ca: 'root', names: ['test.example', '*.wild.example', 'spiffe://cluster.local/ns/a/sa/server'] },
  second: { ca: 'root', names: ['second.example'] },
  rsa: { ca: 'root', names: ['test.example'], kind: 'rsa-2048' },
  client: { ca: 'root', names: ['spiffe://cluster.local/ns/a/sa/client', 'client.example'] },
  stranger: { ca: 'other', names: ['spiffe://cluster.local/ns/a/sa/client'] },
  outsider: { ca: 'root', names: ['spiffe://elsewhere/ns/a/sa/client'] },
  address: { ca: 'root', names: ['10.1.2.3', 'fd00::7'] },
  expired: { ca: 'root', names: ['spiffe://cluster.local/ns/a/sa/client', 'test.example'], from: -2 * HOUR, ttl: HOUR },
};

export interface Certificates {
  /** Paths and PEM by the names cases use. */
  readonly files: ReadonlyMap<string, string>;
  pem(name: string): string;
}

type Keep = (name: string, text: string) => void;

/** A UTF8String, an INTEGER, an OBJECT IDENTIFIER, a BOOLEAN, a NULL, a BMPString and an OCTET STRING. */
const OTHER_NAMES = [
  '0c0975736572406e6fc3a9',
  '0202fefe',
  '06062a864886f70d',
  '0101ff',
  '0500',
  '1e04006200e9',
  '04026f6b',
];

/** An authority that signs lists of revoked certificates (`ca.lists`), and a path over an intermediate of it. */
async function createPaths(keep: Keep): Promise<void> {
  const root = await createRoot({ commonName: 'lists' });
  const middle = await root.issue({ commonName: 'middle', ca: true });
  const names = ['spiffe://cluster.local/ns/a/sa/client'];
  const revoked = await root.issue({ names });
  const stale = { from: -2 * HOUR, to: -HOUR };
  keep('ca.lists', root.pem);
  keep('ca.middle', middle.pem);
  for (const [name, entity] of Object.entries({
    plain: await root.issue({ names }),
    revoked,
    deep: await middle.issue({ names }),
    mail: await root.issue({ names: ['email:someone@mail.example'] }),
    odd: await root.issue({ names: ['odd.example', ...OTHER_NAMES.map((der, i) => `other:1.2.3.${i + 1}:${der}`)] }),
    broken: await root.issue({ names: ['test.example'], kind: 'rsa-2048', usages: ['keyEncipherment'] }),
  })) {
    keep(`cert.${name}`, entity.chainPem);
    keep(`key.${name}`, entity.keyPem);
  }
  keep('crl.empty', (await root.crl([])) + (await middle.crl([])));
  keep('crl.revoked', (await root.crl([revoked])) + (await middle.crl([])));
  keep('crl.middle', (await root.crl([middle])) + (await middle.crl([])));
  keep('crl.root', await root.crl([]));
  keep('crl.stale', await root.crl([], stale));
}

/** Writes every certificate, key, CA and revocation list into `dir`. */
export async function createCertificates(dir: string): Promise<Certificates> {
  const pems = new Map<string, string>();
  const files = new Map<string, string>();
  const keep = (name: string, text: string): void => {
    const file = path.join(dir, `${name}.pem`);
    writeFileSync(file, text, { mode: 0o600 });
    pems.set(name, text);
    files.set(name, file);
  };
  const issuers = new Map<string, Issuer>();
  for (const name of ['root', 'other']) {
    const key = await generateKey('p256');
    const certificate = await issueRoot({
      key,
      organization: `${name}.example`,
      now: Date.now() - 10 * HOUR,
      ttlMs: 1000 * HOUR,
      random: randomBytes,
    });
    issuers.set(name, { certificate, key });
    keep(`ca.${name}`, certificatePem(certificate));
  }
  for (const [name, leaf] of Object.entries(LEAVES)) {
    const key = await generateKey(leaf.kind ?? 'p256');
    const certificate = await issueLeaf(issuers.get(leaf.ca)!, {
      publicKey: createPublicKey(key),
      names: leaf.names.map(altName),
      withCommonName: true,
      now: Date.now() + (leaf.from ?? 0),
      ttlMs: leaf.ttl ?? 24 * HOUR,
      random: randomBytes,
    });
    keep(`cert.${name}`, certificatePem(certificate));
    keep(`key.${name}`, writePrivateKey(key, 'pkcs8'));
  }
  await createPaths(keep);
  return {
    files,
    pem(name) {
      const text = pems.get(name);
      if (text === undefined)
        throw new Error(`there is no certificate "${name}"; known: ${[...pems.keys()].join(', ')}`);
      return text;
    },
  };
}
