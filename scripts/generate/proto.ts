// Protobuf code: Envoy's v3 API as shipped inside @grpc/grpc-js-xds, and our own files under proto/.
// Called by scripts/generate/main.ts.
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** Files the Envoy tree imports that the package does not carry; only the names that are referred to are declared. */
const MISSING_IMPORTS: Readonly<Record<string, string>> = {
  'opencensus/proto/trace/v1/trace_config.proto':
    'syntax = "proto3";\npackage opencensus.proto.trace.v1;\nmessage TraceConfig {}\n',
  'io/prometheus/client/metrics.proto': 'syntax = "proto2";\npackage io.prometheus.client;\nmessage MetricFamily {}\n',
  'opentelemetry/proto/common/v1/common.proto':
    'syntax = "proto3";\npackage opentelemetry.proto.common.v1;\nmessage AnyValue { oneof value { string string_value = 1; } }\nmessage KeyValue { string key = 1; AnyValue value = 2; }\nmessage KeyValueList { repeated KeyValue values = 1; }\n',
};

/** Writes ES modules with .d.ts for every message to `out`. Throws with buf's output when it fails. */
export function generateProto(root: string, out: string): void {
  const work = mkdtempSync(path.join(tmpdir(), 'meltemi-proto-'));
  try {
    collectSources(root, work);
    runBuf(root, work, out);
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

function runBuf(root: string, work: string, out: string): void {
  const bin = (name: string) => path.join(root, 'node_modules', '.bin', name);
  writeFileSync(path.join(work, 'buf.yaml'), 'version: v2\n');
  writeFileSync(
    path.join(work, 'buf.gen.yaml'),
    JSON.stringify({
      version: 'v2',
      plugins: [
        { local: bin('protoc-gen-es'), out: 'out', strategy: 'all', opt: ['target=js+dts', 'import_extension=js'] },
      ],
    }),
  );
  const env = {
    ...process.env,
    PATH: `${path.dirname(process.execPath)}:${process.env.PATH}`,
    BUF_CACHE_DIR: path.join(work, '.cache'),
  };
  const run = spawnSync(path.join(root, 'node_modules', '@bufbuild', 'buf-linux-x64', 'bin', 'buf'), ['generate'], {
    cwd: work,
    encoding: 'utf8',
    env,
  });
  if (run.status !== 0) throw new Error(`buf generate failed (exit ${run.status}):\n${run.stdout}${run.stderr}`);
  cpSync(path.join(work, 'out'), out, { recursive: true });
}
