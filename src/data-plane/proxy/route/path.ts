// Paths of requests, and what a path match leaves for a rewrite.

/** What a path rewrite replaces. */
export type PathMatch =
  | { readonly kind: 'prefix'; readonly value: string; readonly fold: boolean }
  | { readonly kind: 'exact'; readonly value: string; readonly fold: boolean }
  | { readonly kind: 'regex' };

/** The path without its query. */
export function pathOf(target: string): string {
  const mark = target.indexOf('?');
  return mark < 0 ? target : target.slice(0, mark);
}
