// Conditions of a VirtualService's http rules (traffic.md §4.1). Called by virtual-service.ts.
import { RE2JS } from 're2js';
import { flag, headerName, integer, object, type Reader, report, text, textMap, texts } from './reader.ts';

export type StringMatch =
  | { readonly kind: 'exact' | 'prefix' | 'regex'; readonly value: string }
  | { readonly kind: 'present' };

export interface HttpMatch {
  readonly name: string;
  readonly uri?: StringMatch;
  readonly ignoreUriCase: boolean;
  readonly scheme?: StringMatch;
  readonly method?: StringMatch;
  readonly authority?: StringMatch;
  readonly headers: ReadonlyMap<string, StringMatch>;
  readonly withoutHeaders: ReadonlyMap<string, StringMatch>;
  readonly queryParams: ReadonlyMap<string, StringMatch>;
  readonly port?: number;
  readonly gateways: readonly string[];
  readonly sourceLabels: ReadonlyMap<string, string>;
  readonly sourceNamespace?: string;
}

const MAX_REGEX_BYTES = 1024;

export function readMatch(reader: Reader, value: unknown, path: string): HttpMatch {
  const raw =
    object(
      reader,
      value,
      path,
      [
        'name',
        'uri',
        'ignoreUriCase',
        'scheme',
        'method',
        'authority',
        'headers',
        'withoutHeaders',
        'queryParams',
        'port',
        'gateways',
        'sourceLabels',
        'sourceNamespace',
      ],
      ['statPrefix'],
    ) ?? {};
  const single = (key: 'uri' | 'scheme' | 'method' | 'authority') => {
    const match = readStringMatch(reader, raw[key], `${path}.${key}`);
    return match ? { [key]: match } : {};
  };
  const port = integer(reader, raw.port, `${path}.port`, 1, 65535);
  const namespace = text(reader, raw.sourceNamespace, `${path}.sourceNamespace`);
  return {
    name: text(reader, raw.name, `${path}.name`) ?? '',
    ...single('uri'),
    ...single('scheme'),
    ...single('method'),
    ...single('authority'),
    ignoreUriCase: flag(reader, raw.ignoreUriCase, `${path}.ignoreUriCase`) ?? false,
    headers: readMatches(reader, raw.headers, `${path}.headers`),
    withoutHeaders: readMatches(reader, raw.withoutHeaders, `${path}.withoutHeaders`),
    queryParams: readMatches(reader, raw.queryParams, `${path}.queryParams`),
    ...(port !== undefined ? { port } : {}),
    gateways: texts(reader, raw.gateways, `${path}.gateways`),
    sourceLabels: new Map(Object.entries(textMap(reader, raw.sourceLabels, `${path}.sourceLabels`) ?? {})),
    ...(namespace === undefined ? {} : { sourceNamespace: namespace }),
  };
}

function readMatches(reader: Reader, value: unknown, path: string): ReadonlyMap<string, StringMatch> {
  const out = new Map<string, StringMatch>();
  if (value === undefined || value === null) return out;
  const raw = object(reader, value, path, Object.keys(value)) ?? {};
  for (const [key, entry] of Object.entries(raw)) {
    const match = readStringMatch(reader, entry ?? {}, `${path}[${key}]`);
    if (!path.endsWith('queryParams')) headerName(reader, key, `${path}[${key}]`);
    if (match) out.set(path.endsWith('queryParams') ? key : key.toLowerCase(), match);
  }
  return out;
}

export function readStringMatch(reader: Reader, value: unknown, path: string): StringMatch | undefined {
  const raw = object(reader, value, path, ['exact', 'prefix', 'regex']);
  if (!raw) return undefined;
  const given = (['exact', 'prefix', 'regex'] as const).filter((k) => raw[k] !== undefined);
  if (given.length > 1) report(reader, path, 'oneof', `${path}: only one of exact, prefix, regex may be set`);
  const kind = given[0];
  if (!kind) return { kind: 'present' };
  const pattern = text(reader, raw[kind], `${path}.${kind}`) ?? '';
  if (kind !== 'exact' && pattern === '') report(reader, path, 'empty', `${kind} string match should not be empty`);
  if (kind === 'regex') {
    if (pattern === '*') return { kind: 'present' };
    checkRegex(reader, pattern, path);
  }
  return { kind, value: pattern };
}

export function checkRegex(reader: Reader, pattern: string, path: string): void {
  if (Buffer.byteLength(pattern) > MAX_REGEX_BYTES) {
    report(reader, path, 'regex', `regex is too large, max length allowed is ${MAX_REGEX_BYTES}`);
    return;
  }
  try {
    RE2JS.compile(pattern);
  } catch {
    report(reader, path, 'regex', `invalid regex: ${JSON.stringify(pattern)} is not RE2`);
  }
}
