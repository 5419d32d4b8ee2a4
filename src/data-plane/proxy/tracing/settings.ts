// Sampling of traces and custom tags, as the connection manager and routes configure them.
import { type Tracing, TracingSchema } from '#proto/envoy/config/route/v3/route_components_pb.js';
import { only } from '../config/fields.ts';
import { fraction } from '../config/matchers.ts';

/** Shares of the whole, 0..1; undefined = the connection manager's. */
export interface RouteTracing {
  readonly client: number;
  readonly random: number;
  readonly overall: number;
}

export function compileRouteTracing(message: Tracing | undefined, path: string): RouteTracing | undefined {
  if (!message) return undefined;
  only(TracingSchema, message, path, ['client_sampling', 'random_sampling', 'overall_sampling']);
  return {
    client: fraction(message.clientSampling, 1),
    random: fraction(message.randomSampling, 1),
    overall: fraction(message.overallSampling, 1),
  };
}
