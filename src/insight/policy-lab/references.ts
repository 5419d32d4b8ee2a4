// Names in a MeshTest that must mean something: workloads that send, answer or are counted. Called by read.ts.
import { type Reader, report } from '../../api/istio/reader.ts';
import { nearest } from '../../base/nearest.ts';
import type { Addresses } from './addresses.ts';
import type { MeshTest, TestRequest } from './format.ts';
import { createNames, defaultGateway, type Names, namespaceOf } from './names.ts';

export function checkReferences(reader: Reader, test: MeshTest, addresses: Addresses): void {
  const names = createNames(test, addresses);
  const workloads = test.workloads.map((w) => `${w.namespace}/${w.name}`);
  const known = new Set(workloads);
  const must = (name: string, path: string, also: readonly string[] = []): void => {
    // What is missing is told already.
    if (name === '' || known.has(name) || also.includes(name)) return;
    const all = [...known, ...also];
    const near = all.find((one) => one.endsWith(`/${name}`)) ?? nearest(name, all);
    const hint = near ? `did you mean ${near}?` : `known are ${all.join(', ') || 'none'}`;
    report(reader, path, 'unknown-workload', `${path}: there is no workload "${name}": ${hint}`);
  };
  for (const name of workloads.filter((w, i) => workloads.indexOf(w) !== i))
    report(reader, 'spec.workloads', 'duplicate', `spec.workloads names ${name} twice`);
  for (const [host, workload] of Object.entries(test.dns)) must(workload, `spec.dns[${host}]`);
  for (const [i, request] of test.requests.entries()) {
    const path = `spec.requests[${i}]`;
    const { expect } = request;
    must(request.from, `${path}.from`, ['external']);
    if (test.workloads.some((w) => `${w.namespace}/${w.name}` === request.from && w.replicas === 0))
      report(reader, `${path}.from`, 'no-replica', `${path}.from: ${request.from} has no replica that could send`);
    checkTarget(reader, test, request, path, names);
    if (expect.responder !== undefined) must(expect.responder, `${path}.expect.responder`);
    for (const name of Object.keys(expect.distribution ?? {})) must(name, `${path}.expect.distribution[${name}]`);
    for (const name of Object.keys(expect.mirrored ?? {})) must(name, `${path}.expect.mirrored[${name}]`);
    if (request.upstreamScript.length > 0 && !test.workloads.some((w) => w.image.kind === 'scripted'))
      report(
        reader,
        `${path}.upstreamScript`,
        'no-script',
        `${path}.upstreamScript needs a workload with image: scripted`,
      );
    if (expect.grpcStatus !== undefined && request.scheme !== 'grpc')
      report(reader, `${path}.expect.grpcStatus`, 'scheme', `${path}.expect.grpcStatus needs to: grpc://…`);
    const stream = request.scheme === 'tcp' || request.scheme === 'tls';
    if (stream && (expect.status !== undefined || expect.statusAnyOf !== undefined))
      report(
        reader,
        `${path}.expect.status`,
        'scheme',
        `${path}.expect.status: ${request.scheme} has no status; use ok or code`,
      );
    if (request.clientCert !== undefined && !secretExists(test, request.clientCert))
      report(
        reader,
        `${path}.clientCert`,
        'no-secret',
        `${path}.clientCert: there is no Secret "${request.clientCert}" among the resources (namespace/name)`,
      );
  }
}

/** A mistyped host must not pass for a connection that was refused. */
function checkTarget(reader: Reader, test: MeshTest, request: TestRequest, path: string, names: Names): void {
  if (request.resolveTo !== undefined) {
    if (names.target(request.resolveTo, request.port).length === 0)
      report(
        reader,
        `${path}.resolveTo`,
        'unknown-host',
        `${path}.resolveTo: "${request.resolveTo}" is no workload or service (namespace/name) and no address`,
      );
    return;
  }
  // Who sends is unknown: told already.
  const sender = test.workloads.some((w) => `${w.namespace}/${w.name}` === request.from);
  if (!sender && request.from !== 'external') return;
  if (request.host === '' || names.resolve(request.host, namespaceOf(request)).length > 0) return;
  if (request.from === 'external' && defaultGateway(test) !== undefined) return;
  const known = [
    ...test.services.flatMap((s) => [s.name, `${s.name}.${s.namespace}`]),
    ...Object.keys(test.dns),
    ...test.resources.flatMap(({ object }) => hostsOf(object)),
  ];
  const near = nearest(request.host, known);
  report(
    reader,
    `${path}.to`,
    'unknown-host',
    `${path}.to: ${request.from} cannot resolve "${request.host}" (${near ? `did you mean "${near}"?` : 'known are Services, hosts of ServiceEntries, spec.dns and addresses'}); to send it all the same, set resolveTo, or name the host in a Host header`,
  );
}

function hostsOf(object: { readonly kind: string }): readonly string[] {
  const hosts = (object as { spec?: { hosts?: unknown } }).spec?.hosts;
  return object.kind === 'ServiceEntry' && Array.isArray(hosts) ? hosts.filter((h) => typeof h === 'string') : [];
}

function secretExists(test: MeshTest, name: string): boolean {
  return test.resources.some(
    ({ object }) => object.kind === 'Secret' && `${object.metadata.namespace}/${object.metadata.name}` === name,
  );
}
