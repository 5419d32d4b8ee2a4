// The certificate authorities of a run: one root for each trust domain, and one outside the mesh. Certificates are kept for the
// whole run, since hundreds of meshes have the same identities. Called by run.ts and mesh.ts.
import {
  createOfflineAuthority,
  createPublicAuthority,
  type OfflineAuthority,
  type PublicAuthority,
} from '../../control-plane/offline/wiring.ts';

export interface Authorities {
  mesh(trustDomain: string): Promise<OfflineAuthority>;
  outside(): Promise<PublicAuthority>;
}

export function createAuthorities(): Authorities {
  const meshes = new Map<string, Promise<OfflineAuthority>>();
  let outside: Promise<PublicAuthority> | undefined;
  return {
    mesh: (trustDomain) => once(meshes, trustDomain, () => createOfflineAuthority(trustDomain).then(remembering)),
    outside() {
      outside ??= createPublicAuthority('Mesh test').then((authority) => {
        const issued = new Map<string, ReturnType<PublicAuthority['issue']>>();
        return { ...authority, issue: (names) => once(issued, names.join(), () => authority.issue(names)) };
      });
      return outside;
    },
  };
}

function remembering(authority: OfflineAuthority): OfflineAuthority {
  const issued = new Map<string, ReturnType<OfflineAuthority['issueWorkload']>>();
  return { ...authority, issueWorkload: (id) => once(issued, id, () => authority.issueWorkload(id)) };
}

function once<T>(known: Map<string, Promise<T>>, key: string, make: () => Promise<T>): Promise<T> {
  const found = known.get(key) ?? make();
  known.set(key, found);
  return found;
}
