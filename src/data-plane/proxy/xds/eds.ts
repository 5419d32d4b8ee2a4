// Endpoints by source and name, shared by all clusters that ask for the same (the active one and the one that warms).
// Called by the cluster manager through the engine.
import type { ClusterLoadAssignment } from '#proto/envoy/config/endpoint/v3/endpoint_pb.js';
import type { EndpointSink, EndpointSource } from '../cluster/manager.ts';
import type { DiscoveryHub } from './hub.ts';
import { EDS } from './kinds.ts';
import type { Source } from './source.ts';

interface Followed {
  readonly sinks: Set<EndpointSink>;
  message: ClusterLoadAssignment | undefined;
  /** Set when the wait for the first answer is over without one. */
  missing: boolean;
  release: () => void;
}

export function createEndpointSource(hub: DiscoveryHub): EndpointSource {
  const all = new Map<string, Followed>();
  return {
    follow(source: Source, name, statPrefix, sink) {
      const key = `${source.key} ${name}`;
      const known = all.get(key);
      const followed = known ?? begin(hub, source, name, statPrefix);
      if (!known) all.set(key, followed);
      followed.sinks.add(sink);
      // Endpoints we hold stay true until EDS says otherwise: a changed cluster need not wait for them again.
      if (followed.message) sink.given(followed.message);
      else if (followed.missing) sink.missing();
      return () => {
        followed.sinks.delete(sink);
        if (followed.sinks.size > 0) return;
        all.delete(key);
        followed.release();
      };
    },
  };
}

function begin(hub: DiscoveryHub, source: Source, name: string, statPrefix: string): Followed {
  const followed: Followed = { sinks: new Set(), message: undefined, missing: false, release: () => {} };
  const missing = (): void => {
    followed.missing = true;
    for (const sink of [...followed.sinks]) sink.missing();
  };
  followed.release = hub.named(
    source,
    EDS,
    name,
    {
      statPrefix,
      update(message) {
        for (const sink of [...followed.sinks]) sink.given(message);
        followed.message = message;
        followed.missing = false;
      },
      removed: missing,
      timedOut: missing,
    },
    `endpoints of '${name}'`,
  );
  return followed;
}
