// Accept headers: which of our renderings a client wants. Pure. Called by http/handler.ts.
import { ApiError } from '../status.ts';

export type Rendering =
  | { readonly kind: 'object' }
  | { readonly kind: 'table'; readonly version: 'v1' | 'v1beta1' }
  | { readonly kind: 'metadata'; readonly version: 'v1' | 'v1beta1' };

export interface Negotiated {
  readonly rendering: Rendering;
  readonly yaml: boolean;
}

interface MediaRange {
  readonly type: string;
  readonly params: ReadonlyMap<string, string>;
}

const MAX_RANGES = 32;

export function mediaRanges(accept: string | undefined): readonly MediaRange[] {
  return (accept ?? '*/*').split(',', MAX_RANGES).map((part) => {
    const [type = '', ...params] = part.split(';').map((item) => item.trim());
    return {
      type: type.toLowerCase(),
      params: new Map(params.map((param) => [param.slice(0, param.indexOf('=')), param.slice(param.indexOf('=') + 1)])),
    };
  });
}

/** The first range we can serve; protobuf is passed over. Throws 406 when nothing fits. */
export function negotiate(accept: string | undefined): Negotiated {
  for (const range of mediaRanges(accept || undefined)) {
    const yaml = range.type === 'application/yaml';
    if (!yaml && !['application/json', 'application/*', '*/*'].includes(range.type)) continue;
    const as = range.params.get('as');
    if (as === undefined) return { rendering: { kind: 'object' }, yaml };
    const version = range.params.get('v');
    if (range.params.get('g') !== 'meta.k8s.io' || (version !== 'v1' && version !== 'v1beta1')) continue;
    if (as === 'Table') return { rendering: { kind: 'table', version }, yaml };
    if (as === 'PartialObjectMetadata' || as === 'PartialObjectMetadataList')
      return { rendering: { kind: 'metadata', version }, yaml };
  }
  throw new ApiError(
    406,
    'NotAcceptable',
    'only the following media types are accepted: application/json, application/yaml, application/json;as=Table;v=v1;g=meta.k8s.io',
  );
}

/** Which form of discovery is asked for. */
export function discoveryForm(accept: string | undefined): 'v2' | 'v2beta1' | 'legacy' {
  for (const range of mediaRanges(accept || undefined)) {
    if (range.params.get('as') !== 'APIGroupDiscoveryList' || range.params.get('g') !== 'apidiscovery.k8s.io') {
      if (range.type === 'application/json' || range.type === '*/*') return 'legacy';
      continue;
    }
    const version = range.params.get('v');
    if (range.type === 'application/json' && (version === 'v2' || version === 'v2beta1')) return version;
  }
  return 'legacy';
}
