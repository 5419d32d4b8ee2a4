// DestinationRule (networking.istio.io): decoding and validation (traffic.md §5). Used by config/ and the validation webhook.
import type { Parsed } from '../../base/runtime/diagnostics.ts';
import {
  host as checkHost,
  createReader,
  finish,
  list,
  object,
  type Reader,
  report,
  text,
  textMap,
  texts,
} from './reader.ts';
import { readPolicy, type TrafficPolicy } from './traffic-policy.ts';

export type { ClientTls, LoadBalancer, TrafficPolicy, TrafficSettings } from './traffic-policy.ts';

export interface Subset {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly policy?: TrafficPolicy;
}

export interface DestinationRuleSpec {
  readonly host: string;
  readonly policy?: TrafficPolicy;
  readonly subsets: readonly Subset[];
  readonly exportTo: readonly string[];
}

const DNS_LABEL = /^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/i;

export function parseDestinationRule(spec: unknown, reader: Reader = createReader()): Parsed<DestinationRuleSpec> {
  const root =
    object(reader, spec, 'spec', ['host', 'trafficPolicy', 'subsets', 'exportTo'], ['workloadSelector']) ?? {};
  const host = text(reader, root.host, 'spec.host') ?? '';
  if (host === '') report(reader, 'spec.host', 'required', 'domain name "" invalid (empty host)');
  else checkHost(reader, host, 'spec.host');
  const policy = readPolicy(reader, root.trafficPolicy, 'spec.trafficPolicy');
  const subsets: Subset[] = [];
  const seen = new Set<string>();
  for (const [i, entry] of list(reader, root.subsets, 'spec.subsets').entries()) {
    const path = `spec.subsets[${i}]`;
    const raw = object(reader, entry, path, ['name', 'labels', 'trafficPolicy']) ?? {};
    const name = text(reader, raw.name, `${path}.name`) ?? '';
    if (!DNS_LABEL.test(name))
      report(reader, `${path}.name`, 'name', `subset name is invalid: ${JSON.stringify(name)}`);
    if (seen.has(name)) report(reader, `${path}.name`, 'duplicate', `duplicate subset name: ${name}`);
    seen.add(name);
    const subsetPolicy = readPolicy(reader, raw.trafficPolicy, `${path}.trafficPolicy`);
    subsets.push({
      name,
      labels: textMap(reader, raw.labels, `${path}.labels`) ?? {},
      ...(subsetPolicy ? { policy: subsetPolicy } : {}),
    });
  }
  const exportTo = readExportTo(reader, root.exportTo);
  return finish(reader, { host, ...(policy ? { policy } : {}), subsets, exportTo });
}

export function readExportTo(reader: Reader, value: unknown): readonly string[] {
  const exportTo = texts(reader, value, 'spec.exportTo');
  if (new Set(exportTo).size !== exportTo.length)
    report(reader, 'spec.exportTo', 'duplicate', 'duplicate entries in exportTo');
  if (exportTo.includes('*') && exportTo.length > 1)
    report(reader, 'spec.exportTo', 'mixed', 'cannot have both public (*) and other visibility in exportTo');
  return exportTo;
}
