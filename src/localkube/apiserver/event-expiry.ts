// Events live an hour, as on a real cluster: nothing else removes them. Started by server.ts.
import { errorText } from '../../base/runtime/log.ts';
import type { Core } from './core.ts';
import { at, str } from './json.ts';

const EVENT_LIFE_MS = 3_600_000;
const LOOK_EVERY_MS = 300_000;

/** The returned function stops. */
export function expireEvents(core: Core): () => void {
  const look = (): void => {
    try {
      removeOld(core);
    } catch (error) {
      core.log.warn('cannot remove old events', { error: errorText(error) });
    }
    cancel = core.clock.after(LOOK_EVERY_MS, look);
  };
  let cancel = core.clock.after(LOOK_EVERY_MS, look);
  return () => cancel();
}

export function removeOld(core: Pick<Core, 'store' | 'clock'>): void {
  const oldest = core.clock.now() - EVENT_LIFE_MS;
  for (const event of core.store.list('/events')) {
    const last = str(event.lastTimestamp) || str(event.eventTime) || str(at(event, 'metadata', 'creationTimestamp'));
    if (Date.parse(last) < oldest) core.store.delete('/events', event.metadata.namespace ?? '', event.metadata.name);
  }
}
