// Names that tie the resources together (traffic.md §1): clusters, SNI, listeners, routes.

export const BLACKHOLE_CLUSTER = 'BlackHoleCluster';
export const PASSTHROUGH_CLUSTER = 'PassthroughCluster';
export const INBOUND_PASSTHROUGH_CLUSTER = 'InboundPassthroughCluster';
export const VIRTUAL_OUTBOUND = 'virtualOutbound';
export const VIRTUAL_INBOUND = 'virtualInbound';
export const OUTBOUND_CAPTURE_PORT = 15001;
export const INBOUND_CAPTURE_PORT = 15006;

export interface OutboundClusterName {
  readonly port: number;
  readonly subset: string;
  readonly host: string;
}

export function outboundCluster(port: number, subset: string, host: string): string {
  return `outbound|${port}|${subset}|${host}`;
}

export function inboundCluster(targetPort: number): string {
  return `inbound|${targetPort}||`;
}

/** Undefined when `name` is not of the form `outbound|PORT|SUBSET|HOST`. */
export function parseOutboundCluster(name: string): OutboundClusterName | undefined {
  const parts = name.split('|');
  const [direction, port, subset, host] = parts;
  if (parts.length !== 4 || direction !== 'outbound' || !port || subset === undefined || !host) return undefined;
  if (!/^[0-9]{1,5}$/.test(port)) return undefined;
  return { port: Number(port), subset, host };
}

export function defaultSni(port: number, subset: string, host: string): string {
  return `outbound_.${port}_.${subset}_.${host}`;
}
