// Trace contexts as headers carry them, and W3C's traceparent/tracestate (B3: b3.ts). Read from requests, written to upstream
// requests. Used by tracers.
import { type HeaderMap, headerName } from '../http/header-map.ts';

export interface TraceContext {
  /** 32 hex digits, of B3 also 16. */
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
  | {
      readonly kind: 'none';
      /** A decision without a context. */
      readonly sampled?: boolean;
    }
  | { readonly kind: 'context'; readonly context: TraceContext; readonly decided: boolean }
  | { readonly kind: 'invalid' };

export interface Propagation {
  extract(headers: HeaderMap): Extracted;
  inject(context: TraceContext, headers: HeaderMap): void;
  /** The span of this proxy: below what the request said, or the first of a new trace. Undefined: what came makes no sense. */
  next(extracted: Extracted, sampled: boolean, random: () => number): TraceContext | undefined;
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
  next: nextContext,
};

function nextContext(extracted: Extracted, sampled: boolean, random: () => number): TraceContext | undefined {
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
export function hex(random: () => number, digits: number): string {
  let out = '';
  while (out.length < digits) out += ((random() * 0x1_0000_0000) >>> 0).toString(16).padStart(8, '0');
  return /^0+$/.test(out) ? `${'0'.repeat(digits - 1)}1` : out;
}
