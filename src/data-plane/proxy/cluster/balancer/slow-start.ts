// Slow start: a host that became healthy gets its full share only by and by. Used by round robin and least request.
import type { Host } from '../host.ts';
import type { SlowStart } from './balancer.ts';

/** `weight`, or less while the host is younger than the window. */
export function slowStartWeight(host: Host, weight: number, settings: SlowStart, now: number): number {
  if (host.healthySince < 0 || !host.healthy) return weight;
  const age = now - host.healthySince;
  if (age >= settings.windowMs) return weight;
  const progress = Math.max(age, 1) / settings.windowMs;
  const given = settings.aggression();
  const aggression = given > 0 ? given : 1;
  return weight * Math.max(aggression === 1 ? progress : progress ** (1 / aggression), settings.minWeight);
}

/** Until when some host of `hosts` is in its window, ms; 0 = none. */
export function slowStartUntil(hosts: readonly Host[], settings: SlowStart, now: number): number {
  let until = 0;
  for (const host of hosts)
    if (host.healthySince >= 0 && host.healthy) until = Math.max(until, host.healthySince + settings.windowMs);
  return until > now ? until : 0;
}
