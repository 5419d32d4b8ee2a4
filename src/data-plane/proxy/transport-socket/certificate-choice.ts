// Which of several certificates a server shows: the one for the server name asked for, of a kind the client can check.
// Called by tls-context.ts.
import type { CertificateMaterial } from './secrets.ts';

/** What the choice looks at in the ClientHello. */
export interface HelloFacts {
  readonly serverName: string;
  /** The client can verify ECDSA signatures. */
  readonly ecdsa: boolean;
}

/**
 * Envoy's order: certificates whose name is the server name, else those with a wildcard for it, else all; among them the
 * first ECDSA one when the client can check it, else the first RSA one, else the first of all.
 */
export function choosePair(all: readonly CertificateMaterial[], hello: HelloFacts): CertificateMaterial | undefined {
  const name = hello.serverName.toLowerCase();
  if (name !== '') {
    const exact = all.filter((each) => each.serverNames.includes(name));
    const chosen = byKind(exact, hello.ecdsa);
    if (chosen) return chosen;
    const dot = name.indexOf('.');
    const wildcard = dot > 0 ? `*${name.slice(dot)}` : '';
    const starred = byKind(
      all.filter((each) => each.serverNames.includes(wildcard)),
      hello.ecdsa,
    );
    if (starred) return starred;
  }
  return byKind(all, hello.ecdsa) ?? all[0];
}

function byKind(some: readonly CertificateMaterial[], ecdsa: boolean): CertificateMaterial | undefined {
  const rsa = some.find((each) => !each.isEcdsa);
  return ecdsa ? (some.find((each) => each.isEcdsa) ?? rsa) : rsa;
}
