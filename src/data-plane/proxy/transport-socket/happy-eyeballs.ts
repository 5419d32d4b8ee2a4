// Several addresses of one endpoint: the next one is tried when the one before fails or takes long; the first that answers
// wins (RFC 8305). Called by dial.ts.
import type { Clock } from '../../../base/runtime/clock.ts';
import type { SocketAddr } from '../config/address.ts';
import { HAPPY_EYEBALLS_DELAY_MS } from '../limits.ts';
import type { DialResult } from './dial.ts';

export function dialInTurns(
  targets: readonly SocketAddr[],
  clock: Clock,
  dialOne: (target: SocketAddr, done: (result: DialResult) => void) => () => void,
  done: (result: DialResult) => void,
): () => void {
  const open = new Set<() => void>();
  let next = 0;
  let over = false;
  let cancelTimer: (() => void) | undefined;
  const end = (result: DialResult): void => {
    over = true;
    cancelTimer?.();
    for (const cancel of open) cancel();
    open.clear();
    done(result);
  };
  const tryNext = (): void => {
    cancelTimer?.();
    const target = targets[next];
    if (over || !target) return;
    next += 1;
    const cancel = dialOne(target, (result) => {
      open.delete(cancel);
      if (over) {
        if (result.kind === 'connected') result.transport.destroy();
        return;
      }
      if (result.kind === 'connected' || (open.size === 0 && next >= targets.length)) end(result);
      else tryNext();
    });
    open.add(cancel);
    if (next < targets.length) cancelTimer = clock.after(HAPPY_EYEBALLS_DELAY_MS, tryNext);
  };
  tryNext();
  return () => {
    over = true;
    cancelTimer?.();
    for (const cancel of open) cancel();
  };
}
