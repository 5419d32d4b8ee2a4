// Status conditions: set one and keep the others, with transition times only when the status changes.
import type { Condition } from '../../api/kubernetes/condition.ts';

/** Replaces the condition of the same type; an equal status keeps its transition time. */
export function setCondition(
  conditions: readonly Condition[] | undefined,
  next: Condition,
  now: string,
  options: { readonly updateTime?: boolean } = {},
): readonly Condition[] {
  const list = conditions ?? [];
  const known = list.find((c) => c.type === next.type);
  if (known && known.status === next.status && known.reason === next.reason && known.message === next.message)
    return list;
  const lastTransitionTime = known?.status === next.status ? known.lastTransitionTime : now;
  const made: Condition = {
    type: next.type,
    status: next.status,
    ...(options.updateTime ? { lastUpdateTime: now } : {}),
    lastTransitionTime,
    reason: next.reason,
    message: next.message,
  };
  return known ? list.map((c) => (c === known ? made : c)) : [...list, made];
}

export function removeCondition(conditions: readonly Condition[] | undefined, type: string): readonly Condition[] {
  return (conditions ?? []).filter((c) => c.type !== type);
}

export function findCondition(conditions: readonly Condition[] | undefined, type: string): Condition | undefined {
  return conditions?.find((c) => c.type === type);
}
