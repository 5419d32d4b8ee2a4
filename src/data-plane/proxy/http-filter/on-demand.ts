// envoy.filters.http.on_demand: a request whose route is not known waits until discovery has answered (VHDS, on-demand scopes).
import { type OnDemand, OnDemandSchema } from '#proto/envoy/extensions/filters/http/on_demand/v3/on_demand_pb.js';
import { only } from '../config/fields.ts';
import type { HttpFilter } from './filter.ts';

export function createOnDemandFilter(message: OnDemand, name: string, path: string): HttpFilter {
  // Clusters are not discovered on demand (odcds).
  only(OnDemandSchema, message, path, []);
  return {
    name,
    onRequest(stream) {
      if (stream.route) return 'continue';
      const asked = stream.manager.routes.fetch?.(stream, () => {
        if (stream.finished) return;
        stream.forgetRoute();
        stream.continueRequest();
      });
      return asked ? 'stop' : 'continue';
    },
  };
}
