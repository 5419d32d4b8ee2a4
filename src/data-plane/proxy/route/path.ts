// Paths of requests, and what a path match leaves for a rewrite.
import type { RE2JS } from 're2js';
import type { UriTemplate } from '../../../base/envoy-api/uri-template.ts';

/** What a path rewrite replaces. */
export type PathMatch =
  | { readonly kind: 'prefix'; readonly value: string; readonly fold: boolean }
  | { readonly kind: 'exact'; readonly value: string; readonly fold: boolean }
  | { readonly kind: 'regex'; readonly pattern: RE2JS }
  | { readonly kind: 'template'; readonly template: UriTemplate }
  /** A CONNECT request, which has no path. */
  | { readonly kind: 'connect' };

/** The path without its query. */
export function pathOf(target: string): string {
  const mark = target.indexOf('?');
  return mark < 0 ? target : target.slice(0, mark);
}
