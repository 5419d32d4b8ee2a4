// What a worker makes of commands that come while it starts.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Engine } from '../engine.ts';
import type { Command, ToMain, ToWorker } from './protocol.ts';
import { MainLink, type Port, runWorker, type WorkerParts } from './worker.ts';

test('what was ended while a worker starts does not begin again when it serves', async () => {
  const sent: ToMain[] = [];
  let tell: (message: ToWorker) => void = () => {};
  const port: Port = {
    postMessage: (message) => void sent.push(message),
    on(_event, run) {
      tell = run;
    },
  };
  const done: string[] = [];
  let live = (): void => {};
  const engine = {
    start: async () => {},
    whenLive: () => new Promise<void>((resolve) => (live = resolve)),
    setHealthFailing: (failing: boolean) => void done.push(`failing ${failing}`),
    taps: { read: () => ({}), attach: () => void done.push('tap'), detach: () => void done.push('untap') },
    drainListeners: () => void done.push('drain'),
  };
  const standing: readonly Command[] = [
    { kind: 'health', failing: true },
    { kind: 'tap', id: 1, configId: 'c', config: new Uint8Array() },
  ];
  const running = runWorker({
    port,
    link: new MainLink(port),
    start: { commands: standing },
    engine: engine as unknown as Engine,
    hub: {},
    books: {},
    end() {},
  } as unknown as WorkerParts);
  const command = (each: Command): void => tell({ kind: 'command', command: each });
  command({ kind: 'health', failing: false });
  command({ kind: 'untap' });
  command({ kind: 'drain', inboundOnly: false, graceful: false, skipExit: true });
  await new Promise(setImmediate);
  assert.deepEqual(done.splice(0), ['failing true', 'failing false'], 'only what needs no listeners');
  live();
  await running;
  assert.deepEqual(done, ['tap', 'untap', 'drain']);
  assert.deepEqual(
    sent.map(({ kind }) => kind),
    ['started'],
  );
});
