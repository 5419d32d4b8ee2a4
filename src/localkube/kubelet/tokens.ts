// Service account tokens for projected volumes: asked from the API server, bound to the pod, renewed at 80 % of their life.
// Called by the volumes of a pod.
import type { Pod } from '../../api/kubernetes/pod.ts';
import type { ServiceAccountTokenProjection } from '../../api/kubernetes/volume.ts';
import type { KubeClient } from '../../base/kube/types.ts';
import type { Clock } from '../../base/runtime/clock.ts';

interface TokenRequest {
  readonly status: { readonly token: string; readonly expirationTimestamp: string };
}

interface Held {
  readonly token: string;
  /** Milliseconds since the epoch. */
  readonly renewAt: number;
}

export interface PodTokens {
  /** Asks for what is missing or old. Rejects when the API server refuses. */
  refresh(pod: Pod): Promise<void>;
  get(projection: ServiceAccountTokenProjection): string;
  /** When the next one grows old; undefined without tokens. */
  nextRenewal(): number | undefined;
}

const DEFAULT_SECONDS = 3600;
const RENEW_AT = 0.8;

function key(projection: ServiceAccountTokenProjection): string {
  return `${projection.audience ?? ''}\n${projection.expirationSeconds ?? DEFAULT_SECONDS}`;
}

export function createPodTokens(client: KubeClient, clock: Clock): PodTokens {
  const held = new Map<string, Held>();
  return {
    async refresh(pod) {
      for (const projection of projections(pod)) {
        const known = held.get(key(projection));
        if (known && clock.now() < known.renewAt) continue;
        held.set(key(projection), await request(client, clock, pod, projection));
      }
    },
    get(projection) {
      const known = held.get(key(projection));
      if (!known) throw new Error('service account token is not there yet');
      return known.token;
    },
    nextRenewal: () => (held.size === 0 ? undefined : Math.min(...[...held.values()].map((h) => h.renewAt))),
  };
}

function* projections(pod: Pod): Iterable<ServiceAccountTokenProjection> {
  for (const volume of pod.spec.volumes ?? [])
    for (const source of volume.projected?.sources ?? [])
      if (source.serviceAccountToken) yield source.serviceAccountToken;
}

async function request(
  client: KubeClient,
  clock: Clock,
  pod: Pod,
  projection: ServiceAccountTokenProjection,
): Promise<Held> {
  const { namespace, name, uid } = pod.metadata;
  const account = pod.spec.serviceAccountName ?? pod.spec.serviceAccount ?? 'default';
  const asked = clock.now();
  const answer = await client.post<TokenRequest>(`/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`, {
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenRequest',
    metadata: {},
    spec: {
      audiences: projection.audience ? [projection.audience] : [],
      expirationSeconds: projection.expirationSeconds ?? DEFAULT_SECONDS,
      boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name, uid },
    },
  });
  const expires = Date.parse(answer.status.expirationTimestamp);
  if (!Number.isFinite(expires)) throw new Error('the API server answered a token request without an expiration time');
  return { token: answer.status.token, renewAt: asked + (expires - asked) * RENEW_AT };
}
