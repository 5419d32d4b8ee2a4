// The validation webhook's verdict on one object (injection-capture.md §6). Pure; called by webhook/server.ts.
import { parseDestinationRule } from '../../api/istio/destination-rule.ts';
import { parseGateway } from '../../api/istio/gateway.ts';
import { ISTIO_KINDS, notSupported } from '../../api/istio/kinds.ts';
import { parsePeerAuthentication } from '../../api/istio/peer-authentication.ts';
import { createReader, type RawObject, type Reader, report } from '../../api/istio/reader.ts';
import { parseServiceEntry, parseWorkloadEntry } from '../../api/istio/service-entry.ts';
import { parseVirtualService } from '../../api/istio/virtual-service.ts';
import type { AdmissionRequest, AdmissionResponse } from '../injection/types.ts';

const PARSERS: Readonly<Record<string, (spec: unknown, reader: Reader) => unknown>> = {
  PeerAuthentication: parsePeerAuthentication,
  DestinationRule: parseDestinationRule,
  VirtualService: parseVirtualService,
  Gateway: parseGateway,
  ServiceEntry: parseServiceEntry,
  WorkloadEntry: parseWorkloadEntry,
};

const TOP_LEVEL = new Set(['apiVersion', 'kind', 'metadata', 'spec', 'status']);

export function validateAdmission(request: AdmissionRequest): AdmissionResponse {
  const { uid } = request;
  const allow: AdmissionResponse = { uid, allowed: true };
  if (request.operation !== 'CREATE' && request.operation !== 'UPDATE') return allow;
  const { group, kind } = request.kind;
  const known = ISTIO_KINDS.find((k) => k.kind === kind && k.group === group);
  if (!known) return group.endsWith('.istio.io') ? deny(uid, notSupported(kind)) : allow;
  if (!known.supported) return deny(uid, notSupported(kind));
  const object = request.object;
  if (typeof object !== 'object' || object === null || Array.isArray(object))
    return deny(uid, 'configuration is invalid: the object is not a JSON object');
  const reader = read(kind, object as RawObject);
  const warnings = reader.warnings.length > 0 ? { warnings: reader.warnings } : {};
  if (reader.diagnostics.length === 0) return { ...allow, ...warnings };
  return { ...deny(uid, `configuration is invalid: ${joined(reader.diagnostics.map((d) => d.message))}`), ...warnings };
}

function read(kind: string, object: RawObject): Reader {
  const reader = createReader();
  for (const key of Object.keys(object))
    if (!TOP_LEVEL.has(key)) report(reader, key, 'unknown-field', `unknown field "${key}" on the initial object`);
  PARSERS[kind]?.(object.spec ?? {}, reader);
  return reader;
}

/** The same verdict on an object from a file, with the place of each problem; undefined for kinds that are no Istio kinds. */
export function validateObject(
  apiVersion: string,
  object: RawObject & { readonly kind: string },
): Pick<Reader, 'diagnostics' | 'warnings'> | undefined {
  const group = apiVersion.slice(0, Math.max(0, apiVersion.indexOf('/')));
  if (!group.endsWith('.istio.io')) return undefined;
  const known = ISTIO_KINDS.find((k) => k.kind === object.kind && k.group === group);
  if (!known?.supported)
    return {
      diagnostics: [{ path: 'kind', code: 'not-supported', message: notSupported(object.kind, group) }],
      warnings: [],
    };
  return read(object.kind, object);
}

function joined(messages: readonly string[]): string {
  const unique = [...new Set(messages)];
  if (unique.length === 1) return unique[0] ?? '';
  return `${unique.length} errors occurred:\n${unique.map((m) => `\t* ${m}\n`).join('')}\n`;
}

function deny(uid: string, message: string): AdmissionResponse {
  return { uid, allowed: false, status: { code: 400, message } };
}
