// B3 contexts, in one header (`b3`) or in several (`x-b3-…`), as Zipkin's tracers pass them on. Made by tracer.ts.
import { type HeaderMap, headerName } from '../http/header-map.ts';
import { type Extracted, hex, type Propagation, type TraceContext } from './context.ts';

const B3 = {
  single: headerName('b3'),
  traceId: headerName('x-b3-traceid'),
  spanId: headerName('x-b3-spanid'),
  parentId: headerName('x-b3-parentspanid'),
  sampled: headerName('x-b3-sampled'),
} as const;

const NONE: Extracted = { kind: 'none' };
const INVALID: Extracted = { kind: 'invalid' };
const NO_SPAN = '0'.repeat(16);

export interface B3Options {
  /** New traces have ids of 128 bits; else their first span's id is theirs. */
  readonly wide: boolean;
  /** The span of the caller goes on here: both sides of a call are one span. */
  readonly shared: boolean;
}

/** What came in one header leaves in one. */
export function b3Propagation({ wide, shared }: B3Options): Propagation {
  return {
    extract(headers) {
      const single = headers.get(B3.single);
      return single === undefined ? multi(headers) : oneHeader(single);
    },
    inject(context, headers) {
      const { traceId, spanId, parentId, sampled } = context;
      const flag = sampled ? '1' : '0';
      if (headers.has(B3.single)) {
        headers.set(B3.single, `${traceId}-${spanId}-${flag}${parentId === '' ? '' : `-${parentId}`}`);
        return;
      }
      headers.set(B3.traceId, traceId);
      headers.set(B3.spanId, spanId);
      if (parentId !== '') headers.set(B3.parentId, parentId);
      headers.set(B3.sampled, flag);
    },
    next(extracted, traced, random) {
      if (extracted.kind === 'invalid') return undefined;
      const sampled =
        (extracted.kind === 'none' ? extracted.sampled : extracted.decided ? extracted.context.sampled : undefined) ??
        traced;
      return extracted.kind === 'none'
        ? root(wide, sampled, random)
        : below(extracted.context, shared, sampled, random);
    },
  };
}

function root(wide: boolean, sampled: boolean, random: () => number): TraceContext {
  const spanId = hex(random, 16);
  return { traceId: wide ? hex(random, 16) + spanId : spanId, spanId, parentId: '', sampled, state: '' };
}

function below(context: TraceContext, shared: boolean, sampled: boolean, random: () => number): TraceContext {
  if (shared) return { ...context, sampled };
  return { ...context, spanId: hex(random, 16), parentId: context.spanId, sampled };
}

/** `{trace}-{span}[-{sampled}[-{parent}]]`, or a sampling decision alone. */
function oneHeader(text: string): Extracted {
  if (/^[01d]$/.test(text)) return { kind: 'none', sampled: text !== '0' };
  const match = /^([0-9a-f]{16}|[0-9a-f]{32})-([0-9a-f]{16})(?:-([01d])(?:-([0-9a-f]{16}))?)?$/i.exec(text);
  if (!match) return INVALID;
  const [, traceId = '', spanId = '', flag, parentId = ''] = match;
  return found(traceId, spanId, parentId, flag === undefined ? undefined : flag !== '0');
}

const TRACE = /^(?:[0-9a-f]{1,16}|[0-9a-f]{32})$/i;
const SPAN = /^[0-9a-f]{1,16}$/i;

function multi(headers: HeaderMap): Extracted {
  const flag = headers.get(B3.sampled);
  const sampled = flag === undefined ? undefined : flag === '1' || flag === 'true';
  const traceId = headers.get(B3.traceId);
  const spanId = headers.get(B3.spanId);
  if (traceId === undefined || spanId === undefined) return sampled === undefined ? NONE : { kind: 'none', sampled };
  const parentId = headers.get(B3.parentId);
  if (!TRACE.test(traceId) || !SPAN.test(spanId) || (parentId !== undefined && !SPAN.test(parentId))) return INVALID;
  return found(traceId, spanId, parentId ?? '', sampled);
}

/** Ids are written in full; half a trace id of zeros is left out. */
function found(traceId: string, spanId: string, parentId: string, sampled: boolean | undefined): Extracted {
  const whole = traceId.toLowerCase().padStart(16, '0');
  const parent = parentId === '' ? '' : parentId.toLowerCase().padStart(16, '0');
  return {
    kind: 'context',
    decided: sampled !== undefined,
    context: {
      traceId: whole.length === 32 && whole.startsWith(NO_SPAN) ? whole.slice(16) : whole,
      spanId: spanId.toLowerCase().padStart(16, '0'),
      parentId: parent === NO_SPAN ? '' : parent,
      sampled: sampled ?? false,
      state: '',
    },
  };
}
