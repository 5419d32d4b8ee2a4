// The resources of a MeshTest: inline objects and files of objects, each judged by the code of the admission webhook.
// Called by read.ts.
import { isScalar, LineCounter, parseAllDocuments } from 'yaml';
import { ISTIO_KINDS } from '../../api/istio/kinds.ts';
import { createReader, list, type RawObject, type Reader, report } from '../../api/istio/reader.ts';
import type { KubeObject } from '../../base/kube/types.ts';
import { nearest } from '../../base/nearest.ts';
import { validateObject } from '../../control-plane/offline/wiring.ts';
import type { Addresses } from './addresses.ts';
import type { FileProblem, TestResource } from './format.ts';
import { MAX_FILE_BYTES, MAX_RESOURCES } from './limits.ts';
import { type Places, placesOf } from './places.ts';
import { substituteAddresses } from './substitute.ts';
import { yamlProblem } from './yaml-problem.ts';

/** The files a test may read. */
export interface Files {
  /** Undefined when it cannot be read. */
  read(path: string): string | undefined;
  /** Files that a pattern such as `policies/*.yaml` means, sorted; relative to the folder of `from`. */
  expand(pattern: string, from: string): readonly string[];
}

interface Context {
  readonly file: string;
  readonly places: Places;
  readonly files: Files;
  readonly addresses: Addresses;
}

export function readResources(
  reader: Reader,
  value: unknown,
  context: Context,
): { readonly resources: readonly TestResource[]; readonly problems: readonly FileProblem[] } {
  const resources: TestResource[] = [];
  const problems: FileProblem[] = [];
  const { file, places, files, addresses } = context;
  for (const [i, entry] of list(reader, value, 'spec.resources').entries()) {
    const path = `spec.resources[${i}]`;
    const fileOf = patternOf(entry);
    if (fileOf !== undefined) {
      const found = files.expand(fileOf, file);
      if (found.length === 0)
        report(reader, path, 'no-file', `${path}: no file is named ${fileOf} (from the folder of ${file})`);
      for (const one of found) readObjects(one, files, addresses, resources, problems);
      continue;
    }
    const own = createReader();
    const filled = substituteAddresses(own, entry, path, addresses);
    const resource = check(own, filled, path, file, places(path).line);
    for (const d of own.diagnostics) report(reader, d.path, d.code, d.message);
    if (resource) resources.push(resource);
  }
  if (resources.length > MAX_RESOURCES)
    report(reader, 'spec.resources', 'too-many', `spec.resources holds more than ${MAX_RESOURCES} objects`);
  const seen = new Map<string, TestResource>();
  for (const resource of resources) {
    const { kind, metadata } = resource.object;
    const key = `${kind} ${metadata.namespace}/${metadata.name}`;
    const first = seen.get(key);
    if (first)
      problems.push({
        file: resource.file,
        path: '',
        line: resource.line,
        column: 1,
        code: 'duplicate',
        message: `${key} stands twice: also at ${first.file}:${first.line}`,
      });
    seen.set(key, resource);
  }
  return { resources, problems };
}

function patternOf(entry: unknown): string | undefined {
  if (typeof entry !== 'object' || entry === null || !('file' in entry) || 'kind' in entry) return undefined;
  return typeof entry.file === 'string' && Object.keys(entry).length === 1 ? entry.file : undefined;
}

function readObjects(
  file: string,
  files: Files,
  addresses: Addresses,
  resources: TestResource[],
  problems: FileProblem[],
): void {
  const source = files.read(file);
  const at = { file, path: '', line: 1, column: 1 };
  if (source === undefined) {
    problems.push({ ...at, code: 'no-file', message: `${file}: there is no such file, or it cannot be read` });
    return;
  }
  if (source.length > MAX_FILE_BYTES) {
    problems.push({ ...at, code: 'too-large', message: `${file} is larger than ${MAX_FILE_BYTES / 1024 / 1024} MB` });
    return;
  }
  const lines = new LineCounter();
  for (const document of parseAllDocuments(source, { lineCounter: lines, prettyErrors: false })) {
    const wrong = yamlProblem(file, document, lines, source);
    if (wrong) {
      problems.push(wrong);
      return;
    }
    const value: unknown = document.toJS();
    if (value === null || value === undefined || isScalar(document.contents)) continue;
    const reader = createReader();
    const places = placesOf(document, lines);
    const resource = check(reader, substituteAddresses(reader, value, '', addresses), '', file, places('').line);
    problems.push(...reader.diagnostics.map((d) => ({ file, ...d, ...places(d.path) })));
    if (resource) resources.push(resource);
  }
}

/** Where what these kinds say stands in a mesh test. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  Service: 'Services stand under spec.services',
  Namespace: 'namespaces stand under spec.namespaces',
  ConfigMap: 'the mesh config stands under spec.meshConfig',
  Pod: 'pods stand under spec.workloads',
  Deployment: 'pods stand under spec.workloads',
};

/** In which Istio serves one and the same kind. */
const VERSIONS: ReadonlySet<string> = new Set(['v1', 'v1beta1', 'v1alpha3']);

function kindHint(kind: string): string {
  const near = nearest(kind, ['Secret', ...ISTIO_KINDS.map((each) => each.kind)]);
  if (ELSEWHERE[kind] === undefined && near !== undefined && near !== kind) return `did you mean ${near}?`;
  const known = ISTIO_KINDS.find((each) => each.kind === kind);
  if (known) return `its apiVersion is ${known.group}/v1`;
  return ELSEWHERE[kind] ?? "Istio's objects and Secrets are";
}

function check(reader: Reader, value: unknown, path: string, file: string, line: number): TestResource | undefined {
  const join = (field: string): string => (path === '' ? field : `${path}.${field}`);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    report(
      reader,
      path,
      'wrong-type',
      `${path || 'the document'} must be an object with apiVersion, kind and metadata`,
    );
    return undefined;
  }
  const object = value as RawObject;
  const { apiVersion, kind } = object;
  const metadata = object.metadata as RawObject | undefined;
  if (typeof apiVersion !== 'string' || typeof kind !== 'string' || typeof metadata?.name !== 'string') {
    report(
      reader,
      path,
      'required',
      `${path || 'the document'} needs apiVersion, kind and metadata.name${path === '' ? '' : ', or is {file: PATTERN} alone'}`,
    );
    return undefined;
  }
  const version = apiVersion.slice(apiVersion.indexOf('/') + 1);
  const known = ISTIO_KINDS.find((each) => each.kind === kind && `${each.group}/${version}` === apiVersion);
  if (known && !VERSIONS.has(version) && known.version !== version)
    report(
      reader,
      join('apiVersion'),
      'version',
      `${kind} has no version ${version}: use ${known.group}/${known.version}`,
    );
  const verdict = validateObject(apiVersion, { ...object, kind });
  if (verdict) {
    for (const d of verdict.diagnostics) report(reader, join(d.path), d.code, `${kind} ${metadata.name}: ${d.message}`);
  } else if (kind !== 'Secret' || apiVersion !== 'v1') {
    report(
      reader,
      join('kind'),
      'not-supported',
      `${apiVersion} ${kind} is no resource of a mesh test: ${kindHint(kind)}`,
    );
    return undefined;
  }
  const namespace = { namespace: typeof metadata.namespace === 'string' ? metadata.namespace : 'default' };
  return { object: { ...object, metadata: { ...metadata, ...namespace } } as unknown as KubeObject, file, line };
}
