// Trace contexts as headers carry them: W3C traceparent/tracestate and B3, single and multi. Read from requests, written to
// upstream requests. Used by tracers.
import { type HeaderMap, headerName } from '../http/header-map.ts';

export interface TraceContext {
  /** 32 hex digits. */
  readonly traceId: string;
  /** 16 hex digits: the span of this proxy. */
  readonly spanId: string;
  /** The caller's span; empty = there is none. */
  readonly parentId: string;
  readonly sampled: boolean;
  /** W3C tracestate, passed on as it came. */
  readonly state: string;
}

/** What a request said: nothing, a context, or something that makes no sense. */
export type Extracted =
  | { readonly kind: 'none' }
  | { readonly kind: 'context'; readonly context: TraceContext; readonly decided: boolean }
  | { readonly kind: 'invalid' };

export interface Propagation {
  extract(headers: HeaderMap): Extracted;
  inject(context: TraceContext, headers: HeaderMap): void;
}

const NONE: Extracted = { kind: 'none' };
const INVALID: Extracted = { kind: 'invalid' };
const ZERO_TRACE = '0'.repeat(32);
const ZERO_SPAN = '0'.repeat(16);

const TRACEPARENT = headerName('traceparent');
const TRACESTATE = headerName('tracestate');

/** https://www.w3.org/TR/trace-context/ */
export const W3C: Propagation = {
  extract(headers) {
    const text = headers.get(TRACEPARENT);
    if (text === undefined) return NONE;
    const match = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/.exec(text);
    if (!match) return INVALID;
    const [, version, traceId, spanId, flags, rest] = match;
    // Version ff is none, and version 00 has exactly these four fields.
    if (version === 'ff' || (version === '00' && rest !== undefined)) return INVALID;
    if (traceId === ZERO_TRACE || spanId === ZERO_SPAN) return INVALID;
    const state = headers.getAll(TRACESTATE) ?? '';
    const sampled = (Number.parseInt(flags!, 16) & 1) === 1;
    return {
      kind: 'context',
      decided: true,
      context: { traceId: traceId!, spanId: spanId!, parentId: '', sampled, state },
    };
  },
  inject(context, headers) {
    headers.set(TRACEPARENT, `00-${context.traceId}-${context.spanId}-${context.sampled ? '01' : '00'}`);
    if (context.state !== '') headers.set(TRACESTATE, context.state);
  },
};

const B3 = {
  single: headerName('b3'),
  traceId: headerName('x-b3-traceid'),
  spanId: headerName('x-b3-spanid'),
  parentId: headerName('x-b3-parentspanid'),
  sampled: headerName('x-b3-sampled'),
  flags: headerName('x-b3-flags'),
} as const;

const isTrace = (text: string): boolean => /^([0-9a-f]{16}|[0-9a-f]{32})$/i.test(text) && !/^0+$/.test(text);
const isSpan = (text: string): boolean => /^[0-9a-f]{16}$/i.test(text) && !/^0+$/.test(text);

/** Reads the single header before the several ones, writes the several ones. */
export const B3_HEADERS: Propagation = {
  extract(headers) {
    const single = headers.get(B3.single);
    return single === undefined ? multi(headers) : singleB3(single);
  },
  inject(context, headers) {
    headers.set(B3.traceId, context.traceId);
    headers.set(B3.spanId, context.spanId);
    if (context.parentId === '') headers.remove(B3.parentId);
    else headers.set(B3.parentId, context.parentId);
    headers.set(B3.sampled, context.sampled ? '1' : '0');
  },
};

/** `{trace}-{span}[-{sampled}[-{parent}]]`, or a sampling decision alone. */
function singleB3(text: string): Extracted {
  if (/^[01d]$/.test(text)) return NONE;
  const [traceId = '', spanId = '', sampled, parentId = ''] = text.split('-');
  if (!isTrace(traceId) || !isSpan(spanId)) return INVALID;
  if (sampled !== undefined && !/^[01d]$/.test(sampled)) return INVALID;
  if (parentId !== '' && !isSpan(parentId)) return INVALID;
  return b3(traceId, spanId, parentId, sampled);
}

function multi(headers: HeaderMap): Extracted {
  const traceId = headers.get(B3.traceId);
  const spanId = headers.get(B3.spanId);
  if (traceId === undefined && spanId === undefined) return NONE;
  if (traceId === undefined || spanId === undefined || !isTrace(traceId) || !isSpan(spanId)) return INVALID;
  const parentId = headers.get(B3.parentId) ?? '';
  if (parentId !== '' && !isSpan(parentId)) return INVALID;
  const debug = headers.get(B3.flags) === '1';
  return b3(traceId, spanId, parentId, debug ? 'd' : headers.get(B3.sampled));
}

function b3(traceId: string, spanId: string, parentId: string, sampled: string | undefined): Extracted {
  return {
    kind: 'context',
    // Without a decision the sampling is ours.
    decided: sampled !== undefined,
    context: {
      traceId: traceId.toLowerCase().padStart(32, '0'),
      spanId: spanId.toLowerCase(),
      parentId: parentId.toLowerCase(),
      sampled: sampled === '1' || sampled === 'd' || sampled === 'true',
      state: '',
    },
  };
}

/** A span below what the request said, or the first of a new trace. Undefined: what came makes no sense, nothing is made. */
export function nextContext(extracted: Extracted, sampled: boolean, random: () => number): TraceContext | undefined {
  switch (extracted.kind) {
    case 'invalid':
      return undefined;
    case 'none':
      return { traceId: hex(random, 32), spanId: hex(random, 16), parentId: '', sampled, state: '' };
    case 'context': {
      const { context, decided } = extracted;
      return {
        traceId: context.traceId,
        spanId: hex(random, 16),
        parentId: context.spanId,
        sampled: decided ? context.sampled : sampled,
        state: context.state,
      };
    }
  }
}

/** Never all zeros: that would be no id. */
function hex(random: () => number, digits: number): string {
  let out = '';
  while (out.length < digits) out += ((random() * 0x1_0000_0000) >>> 0).toString(16).padStart(8, '0');
  return /^0+$/.test(out) ? `${'0'.repeat(digits - 1)}1` : out;
}
