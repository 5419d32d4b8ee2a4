// Reads MeshTest files: YAML → checked tests, or problems with file, line and column. Called by run.ts's users (cli/commands/test.ts).
// Nothing is started for a file with a problem.
import { LineCounter, parseAllDocuments } from 'yaml';
import {
  createReader,
  flag,
  integer,
  list,
  type Reader,
  report,
  shown,
  text,
  textMap,
} from '../../api/istio/reader.ts';
import { readMeshConfig } from '../../api/mesh/mesh-config.ts';
import { nearest } from '../../base/nearest.ts';
import { parseTrustDomain } from '../../base/spiffe/spiffe-id.ts';
import { type Addresses, addressesOf } from './addresses.ts';
import { fieldsOf } from './fields.ts';
import {
  API_VERSION,
  type FileProblem,
  type Image,
  KIND,
  type MeshTest,
  type TestPort,
  type TestRequest,
  type TestService,
  type TestWorkload,
} from './format.ts';
import { MAX_FILE_BYTES, MAX_REPLICAS, MAX_REQUESTS, MAX_TESTS_PER_FILE, MAX_WORKLOADS } from './limits.ts';
import { type Places, placesOf } from './places.ts';
import { readRequest } from './read-request.ts';
import { type Files, readResources } from './read-resources.ts';
import { checkReferences } from './references.ts';
import { substituteAddresses } from './substitute.ts';
import { yamlProblem } from './yaml-problem.ts';

export interface ReadFile {
  readonly tests: readonly MeshTest[];
  readonly problems: readonly FileProblem[];
  /** Files beside it that were read: --watch looks at them too. */
  readonly uses: readonly string[];
}

export function readMeshTests(file: string, files: Files): ReadFile {
  const uses: string[] = [];
  const source = files.read(file);
  if (source === undefined) return failed(file, 'no-file', `${file}: there is no such file, or it cannot be read`);
  if (source.length > MAX_FILE_BYTES)
    return failed(file, 'too-large', `${file} is larger than ${MAX_FILE_BYTES / 1024 / 1024} MB`);
  const lines = new LineCounter();
  const documents = parseAllDocuments(source, { lineCounter: lines, prettyErrors: false });
  const tests: MeshTest[] = [];
  const problems: FileProblem[] = [];
  for (const document of documents) {
    const wrong = yamlProblem(file, document, lines, source);
    if (wrong) return { tests: [], uses, problems: [wrong] };
    const value: unknown = document.toJS();
    if (value === null || value === undefined) continue;
    const places = placesOf(document, lines);
    const reader = createReader();
    const read = (used: string): string | undefined => {
      uses.push(used);
      return files.read(used);
    };
    const test = readTest(file, value, reader, places, { ...files, read });
    const told = new Map(reader.diagnostics.map((d) => [`${d.path} ${d.message}`, d]));
    problems.push(...[...told.values()].map((d) => ({ file, ...d, ...places(d.path) })));
    problems.push(...(test?.problems ?? []));
    if (test) tests.push(test.test);
  }
  if (documents.length > MAX_TESTS_PER_FILE)
    return failed(file, 'too-many', `${file} holds more than ${MAX_TESTS_PER_FILE} tests`);
  if (tests.length === 0 && problems.length === 0)
    return failed(file, 'empty', `${file} holds no ${KIND} (apiVersion: ${API_VERSION}, kind: ${KIND})`);
  return { tests: problems.length > 0 ? [] : tests, problems, uses };
}

function failed(file: string, code: string, message: string): ReadFile {
  return { tests: [], uses: [], problems: [{ file, path: '', line: 1, column: 1, code, message }] };
}

const SPEC_FIELDS = [
  'trustDomain',
  'meshConfig',
  'namespaces',
  'services',
  'workloads',
  'resources',
  'issuers',
  'dns',
  'requests',
];

const ELSEWHERE = 'name a file of resources under spec.resources, as {file: NAME}';

function readTest(
  file: string,
  value: unknown,
  reader: Reader,
  places: Places,
  files: Files,
): { readonly test: MeshTest; readonly problems: readonly FileProblem[] } | undefined {
  const root = fieldsOf(reader, value, '', ['apiVersion', 'kind', 'metadata', 'spec']);
  if (!root) return undefined;
  if (root.apiVersion !== API_VERSION || root.kind !== KIND) {
    const path = root.kind === KIND ? 'apiVersion' : 'kind';
    const found = `apiVersion ${shown(root.apiVersion)} and kind ${shown(root.kind)}`;
    const hint =
      root.kind === KIND || nearest(String(root.kind), [KIND]) ? '' : `: only a ${KIND} is run; ${ELSEWHERE}`;
    report(reader, path, 'kind', `expected apiVersion ${API_VERSION} and kind ${KIND}, found ${found}${hint}`);
    return undefined;
  }
  const metadata = fieldsOf(reader, root.metadata, 'metadata', ['name', 'namespace', 'labels', 'annotations']) ?? {};
  const name = text(reader, metadata.name, 'metadata.name') ?? '';
  if (name === '') report(reader, 'metadata', 'required', 'metadata.name is missing');
  const spec = fieldsOf(reader, root.spec, 'spec', SPEC_FIELDS, {
    issuers: 'token issuers come with RequestAuthentication',
  });
  if (!spec) {
    report(reader, 'spec', 'required', 'spec is missing');
    return undefined;
  }
  const services = list(reader, spec.services, 'spec.services').map((s, i) =>
    readService(reader, s, `spec.services[${i}]`),
  );
  const workloads = list(reader, spec.workloads, 'spec.workloads').map((w, i) =>
    readWorkload(reader, w, `spec.workloads[${i}]`),
  );
  if (workloads.length > MAX_WORKLOADS)
    report(reader, 'spec.workloads', 'too-many', `spec.workloads has more than ${MAX_WORKLOADS} entries`);
  const addresses = addressesOf(services, workloads.slice(0, MAX_WORKLOADS));
  const resources = readResources(reader, spec.resources, { file, places, files, addresses });
  const test: MeshTest = {
    file,
    name,
    line: places('').line,
    trustDomain: readTrustDomain(reader, spec.trustDomain),
    meshConfig: readMesh(reader, spec.meshConfig),
    namespaces: readNamespaces(reader, spec.namespaces),
    services,
    workloads,
    resources: resources.resources,
    dns: textMap(reader, spec.dns, 'spec.dns') ?? {},
    requests: readRequests(reader, spec.requests, places, addresses),
    lineOf: (path) => places(path).line,
  };
  checkReferences(reader, test, addresses);
  return { test, problems: resources.problems };
}

function readTrustDomain(reader: Reader, value: unknown): string {
  const given = text(reader, value, 'spec.trustDomain') ?? 'cluster.local';
  const parsed = parseTrustDomain(given);
  if (parsed.kind === 'invalid')
    for (const d of parsed.diagnostics) report(reader, 'spec.trustDomain', d.code, `spec.trustDomain: ${d.message}`);
  return given;
}

function readMesh(reader: Reader, value: unknown): Readonly<Record<string, unknown>> {
  if (value === undefined || value === null) return {};
  const read = readMeshConfig(value, 'istio-system');
  for (const d of read.diagnostics)
    report(reader, `spec.meshConfig.${d.path}`, d.code, `spec.meshConfig: ${d.message}`);
  return typeof value === 'object' && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}

function readNamespaces(reader: Reader, value: unknown): MeshTest['namespaces'] {
  return list(reader, value, 'spec.namespaces').map((entry, i) => {
    const path = `spec.namespaces[${i}]`;
    const raw = fieldsOf(reader, entry, path, ['name', 'labels']) ?? {};
    return {
      name: nameOf(reader, raw.name, path, 'name'),
      labels: textMap(reader, raw.labels, `${path}.labels`) ?? {},
    };
  });
}

function readRequests(reader: Reader, value: unknown, places: Places, addresses: Addresses): readonly TestRequest[] {
  const requests = list(reader, value, 'spec.requests');
  if (requests.length === 0) report(reader, 'spec', 'required', 'spec.requests is missing: a test needs at least one');
  if (requests.length > MAX_REQUESTS)
    report(reader, 'spec.requests', 'too-many', `spec.requests has more than ${MAX_REQUESTS} entries`);
  return requests.map((entry, i) => {
    const path = `spec.requests[${i}]`;
    return readRequest(reader, substituteAddresses(reader, entry, path, addresses), path, i, places(path).line);
  });
}

/** A DNS label; reported when it is not. */
function nameOf(reader: Reader, value: unknown, path: string, key: string): string {
  const found = text(reader, value, `${path}.${key}`) ?? '';
  if (found === '') report(reader, path, 'required', `${path}.${key} is missing`);
  else if (!/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(found) || found.length > 63)
    report(
      reader,
      `${path}.${key}`,
      'name',
      `${path}.${key}: "${found}" is not a name of lower-case letters, digits and -`,
    );
  return found;
}

function readService(reader: Reader, value: unknown, path: string): TestService {
  const raw =
    fieldsOf(reader, value, path, ['name', 'namespace', 'labels', 'annotations', 'ports', 'selector', 'headless']) ??
    {};
  const ports = list(reader, raw.ports, `${path}.ports`);
  if (ports.length === 0) report(reader, path, 'required', `${path}.ports is missing`);
  const selector = textMap(reader, raw.selector, `${path}.selector`) ?? {};
  return {
    name: nameOf(reader, raw.name, path, 'name'),
    namespace: nameOf(reader, raw.namespace ?? 'default', path, 'namespace'),
    labels: textMap(reader, raw.labels, `${path}.labels`) ?? {},
    annotations: textMap(reader, raw.annotations, `${path}.annotations`) ?? {},
    ports: ports.map((p, i) => readPort(reader, p, `${path}.ports[${i}]`)),
    selector,
    headless: flag(reader, raw.headless, `${path}.headless`) ?? false,
  };
}

function readPort(reader: Reader, value: unknown, path: string): TestPort {
  const raw = fieldsOf(reader, value, path, ['name', 'port', 'targetPort', 'appProtocol', 'protocol']) ?? {};
  if (raw.protocol !== undefined && raw.protocol !== 'TCP')
    report(reader, `${path}.protocol`, 'not-supported', `${path}.protocol: only TCP is carried by the mesh`);
  const port = integer(reader, raw.port, `${path}.port`, 1, 65535);
  if (raw.port === undefined) report(reader, path, 'required', `${path}.port is missing`);
  const app = text(reader, raw.appProtocol, `${path}.appProtocol`);
  return {
    name: text(reader, raw.name, `${path}.name`) ?? '',
    port: port ?? 0,
    targetPort: integer(reader, raw.targetPort, `${path}.targetPort`, 1, 65535) ?? port ?? 0,
    ...(app === undefined ? {} : { appProtocol: app }),
  };
}

const WORKLOAD_FIELDS = [
  'name',
  'namespace',
  'serviceAccount',
  'labels',
  'mesh',
  'image',
  'replicas',
  'ip',
  'locality',
];

function readWorkload(reader: Reader, value: unknown, path: string): TestWorkload {
  const raw = fieldsOf(reader, value, path, WORKLOAD_FIELDS) ?? {};
  const name = nameOf(reader, raw.name, path, 'name');
  const ip = text(reader, raw.ip, `${path}.ip`);
  if (ip !== undefined && !/^\d+\.\d+\.\d+\.\d+$/.test(ip))
    report(reader, `${path}.ip`, 'ip', `${path}.ip: "${ip}" is not an IPv4 address`);
  const locality = text(reader, raw.locality, `${path}.locality`);
  const image = readImage(reader, raw.image, `${path}.image`);
  return {
    name,
    namespace: nameOf(reader, raw.namespace ?? 'default', path, 'namespace'),
    serviceAccount: text(reader, raw.serviceAccount, `${path}.serviceAccount`) ?? name,
    labels: textMap(reader, raw.labels, `${path}.labels`) ?? {},
    mesh: flag(reader, raw.mesh, `${path}.mesh`) ?? true,
    image,
    replicas: integer(reader, raw.replicas, `${path}.replicas`, 0, MAX_REPLICAS) ?? 1,
    ...(ip === undefined ? {} : { ip }),
    ...(locality === undefined ? {} : { locality }),
  };
}

function readImage(reader: Reader, value: unknown, path: string): Image {
  const given = text(reader, value, path) ?? 'echo';
  if (given === 'echo' || given === 'tcp-echo' || given === 'gateway' || given === 'scripted') return { kind: given };
  const status = /^status:([1-5]\d\d)$/.exec(given);
  if (status) return { kind: 'status', status: Number(status[1]) };
  const slow = /^slow:(\d+(?:\.\d+)?)(ms|s)$/.exec(given);
  if (slow) return { kind: 'slow', ms: Number(slow[1]) * (slow[2] === 's' ? 1000 : 1) };
  report(
    reader,
    path,
    'image',
    `${path}: "${given}" is no image of a mesh test: echo, tcp-echo, status:503, slow:2s, scripted or gateway`,
  );
  return { kind: 'echo' };
}
