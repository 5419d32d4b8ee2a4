// Protobuf code: Envoy's v3 API as shipped inside @grpc/grpc-js-xds, and our own files under proto/.
// Called by scripts/generate/main.ts.
import { type SpawnSyncOptions, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { create, createFileRegistry, type DescFile, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  CodeGeneratorRequestSchema,
  CodeGeneratorResponseSchema,
  type FileDescriptorProto,
  FileDescriptorSetSchema,
} from '@bufbuild/protobuf/wkt';
import { constraintsModule } from './constraints.ts';
import { NEWER_FIELDS, withNewerFields } from './newer-fields.ts';
import { fileRow } from './proto-rows.ts';

/** Of the answer of protoc-gen-es. */
const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;

/** Files the Envoy tree imports that the package does not carry; only the names that are referred to are declared. */
const MISSING_IMPORTS: Readonly<Record<string, string>> = {
  'opencensus/proto/trace/v1/trace_config.proto':
    'syntax = "proto3";\npackage opencensus.proto.trace.v1;\nmessage TraceConfig {}\n',
  'io/prometheus/client/metrics.proto': 'syntax = "proto3";\npackage io.prometheus.client;\nmessage MetricFamily {}\n',
  'opentelemetry/proto/common/v1/common.proto':
    'syntax = "proto3";\npackage opentelemetry.proto.common.v1;\nmessage AnyValue { oneof value { string string_value = 1; } }\nmessage KeyValue { string key = 1; AnyValue value = 2; }\nmessage KeyValueList { repeated KeyValue values = 1; }\n',
};

/** Writes ES modules with .d.ts for every message to `out`. Throws with the tools' output when they fail. */
export function generateProto(root: string, out: string): void {
  const work = mkdtempSync(path.join(tmpdir(), 'meltemi-proto-'));
  try {
    collectSources(root, work);
    writeModules(root, out, compile(root, work));
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function collectSources(root: string, work: string): void {
  const deps = path.join(root, 'node_modules', '@grpc', 'grpc-js-xds', 'deps');
  for (const [tree, keep] of [
    ['envoy-api', (f: string) => isV3(f) && !f.startsWith('envoy/service/trace/')],
    ['googleapis', (f: string) => /^google\/(rpc\/status|api\/(expr\/v1alpha1\/|annotations|http|httpbody))/.test(f)],
    ['protoc-gen-validate', (f: string) => f.startsWith('validate/')],
    ['xds', () => true],
  ] as const) {
    copyProtos(path.join(deps, tree), work, keep);
  }
  copyProtos(path.join(root, 'proto'), work, () => true);
  for (const [file, text] of Object.entries(MISSING_IMPORTS)) {
    mkdirSync(path.dirname(path.join(work, file)), { recursive: true });
    writeFileSync(path.join(work, file), text);
  }
  for (const entry of NEWER_FIELDS) patch(path.join(work, entry.file), (text) => withNewerFields(entry, text));
  patch(path.join(work, 'validate/validate.proto'), (text) =>
    // Envoy's files use ignore_empty on strings; the copy of validate.proto in the package is older than they are.
    text.includes('ignore_empty = 26')
      ? text
      : text.replace(/(message StringRules \{)/, '$1\n  optional bool ignore_empty = 26;'),
  );
}

function isV3(file: string): boolean {
  return file.startsWith('envoy/annotations/') || /\/(v3|v3alpha)\//.test(file);
}

function copyProtos(from: string, to: string, keep: (file: string) => boolean): void {
  for (const entry of readdirSync(from, { recursive: true }) as string[]) {
    if (!entry.endsWith('.proto') || !keep(entry)) continue;
    const target = path.join(to, entry);
    mkdirSync(path.dirname(target), { recursive: true });
    writeFileSync(target, readFileSync(path.join(from, entry), 'utf8').replaceAll('\r\n', '\n'));
  }
}

function patch(file: string, change: (text: string) => string): void {
  writeFileSync(file, change(readFileSync(file, 'utf8')));
}

/** All files as a FileDescriptorSet, each after those it imports. */
function compile(root: string, work: string): FileDescriptorProto[] {
  writeFileSync(path.join(work, 'buf.yaml'), 'version: v2\n');
  const set = path.join(work, 'set.binpb');
  const env = { ...process.env, BUF_CACHE_DIR: path.join(work, '.cache') };
  run(
    path.join(root, 'node_modules', '@bufbuild', 'buf-linux-x64', 'bin', 'buf'),
    ['build', '--as-file-descriptor-set', '-o', set],
    {
      cwd: work,
      env,
    },
  );
  return fromBinary(FileDescriptorSetSchema, readFileSync(set)).file;
}

function run(program: string, args: readonly string[], options: SpawnSyncOptions): Buffer {
  const done = spawnSync(program, args, { maxBuffer: MAX_OUTPUT_BYTES, ...options });
  if (done.status === 0) return done.stdout as Buffer;
  const why = done.error?.message ?? `exit ${done.status}`;
  throw new Error(`${path.basename(program)} failed (${why}):\n${done.stdout}${done.stderr}`);
}

/** The types come from protoc-gen-es; what runs are tables, and modules that name what is in them. */
function writeModules(root: string, out: string, protoFile: FileDescriptorProto[]): void {
  const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: protoFile }));
  // Files that declare extensions are annotations, which say nothing about the wire.
  const kept = [...registry.files].filter((f) => f.proto.package !== 'google.protobuf' && f.extensions.length === 0);
  const places = new Map(kept.map((file, index) => [file.name, index]));
  const place = (file: DescFile): number => {
    const found = places.get(file.name);
    if (found === undefined) throw new Error(`a type of ${file.name}.proto is used, but that file declares extensions`);
    return found;
  };

  const request = create(CodeGeneratorRequestSchema, {
    fileToGenerate: kept.map((file) => file.proto.name),
    parameter: 'target=js+dts,import_extension=js',
    protoFile,
  });
  const env = { ...process.env, PATH: `${path.dirname(process.execPath)}:${process.env.PATH}` };
  const input = toBinary(CodeGeneratorRequestSchema, request);
  const answer = run(path.join(root, 'node_modules', '.bin', 'protoc-gen-es'), [], { input, env });
  const response = fromBinary(CodeGeneratorResponseSchema, answer);
  if (response.error !== '') throw new Error(`protoc-gen-es failed: ${response.error}`);
  for (const { name, content } of response.file) {
    const file = path.join(out, name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, name.endsWith('.js') ? lazyModule(name, content, places) : content);
  }

  const rows = kept.map((file) => `  () => (${JSON.stringify(fileRow(file, place))}),\n`);
  writeFileSync(path.join(out, 'files.js'), `export const files = [\n${rows.join('')}];\n`);
  writeFileSync(path.join(out, 'constraints.js'), constraintsModule(registry));
  writeFileSync(path.join(out, 'constraints.d.ts'), 'export declare const constraints: string;\n');
  const hydrator = path.join(root, 'src', 'base', 'proto', 'descriptors.ts');
  const specifier = path.relative(out, hydrator).split(path.sep).join('/');
  writeFileSync(
    path.join(out, 'lazy.js'),
    `import { createDescriptors } from '${specifier}';\nimport { files } from './files.js';\n` +
      'export const { enumDesc, fileDesc, messageDesc, serviceDesc, tsEnum } = createDescriptors(files);\n',
  );
}

/** The module protoc-gen-es wrote, with its descriptors from lazy.js instead of the library and all the files it imports. */
function lazyModule(name: string, content: string, places: ReadonlyMap<string, number>): string {
  const lazy = `${'../'.repeat(name.split('/').length - 1) || './'}lazy.js`;
  const index = places.get(name.replace(/_pb\.js$/, ''));
  const text = content
    .replace(/^import \{ file_.*\n/gm, '')
    .replace('"@bufbuild/protobuf/codegenv2"', `"${lazy}"`)
    .replace(/fileDesc\("[^"]*"(?:, \[[^\]]*\])?\)/, `fileDesc(${index})`);
  if (index === undefined || !text.includes(`fileDesc(${index})`) || /\bextDesc\b|^import .*@bufbuild/m.test(text)) {
    throw new Error(`protoc-gen-es wrote ${name} in a form that scripts/generate/proto.ts does not know`);
  }
  return text;
}
