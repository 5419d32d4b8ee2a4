// The operation a route's decorator names, told to the proxies on either side. Only where requests are traced, as in Envoy.
// Called by streams at the head of a request and of its answer.
import type { HeaderMap } from '../http/header-map.ts';
import { H } from '../http/names.ts';

export interface Decorated {
  readonly decorator: string;
  readonly decoratorPropagates: boolean;
}

/**
 * Outbound proxies tell the next one the operation. Others consume what they are told, or have an operation of their own for a
 * caller outside the mesh: that is what comes back, else an empty text.
 */
export function decorateRequest(headers: HeaderMap, outbound: boolean, route: Decorated | undefined): string {
  const own = route?.decoratorPropagates ? route.decorator : '';
  if (outbound) {
    if (own !== '') headers.set(H.decorator, own);
    return '';
  }
  const told = headers.get(H.decorator);
  headers.remove(H.decorator);
  return told ? '' : own;
}

/** `operation`: what `decorateRequest` returned. */
export function decorateResponse(headers: HeaderMap, outbound: boolean, operation: string): void {
  if (outbound) headers.remove(H.decorator);
  else if (operation !== '') headers.set(H.decorator, operation);
}
