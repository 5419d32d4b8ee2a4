// Commands whose effect lasts: what a worker that starts later must be told to come to the same state. Kept by the supervisor; a
// later one of the same thing takes the place of an earlier, so that their number does not grow.
import type { Command } from './protocol.ts';

export class StandingCommands {
  readonly #commands = new Map<string, Command>();

  note(command: Command): void {
    switch (command.kind) {
      case 'drain':
        this.#put(`drain ${command.inboundOnly} ${command.graceful} ${command.skipExit}`, command);
        return;
      case 'health':
        this.#put('health', command);
        return;
      case 'log':
        // The common level overrides those of single loggers.
        if (command.logger === undefined)
          for (const key of [...this.#commands.keys()]) if (key.startsWith('log ')) this.#commands.delete(key);
        this.#put(`log ${command.logger ?? ''}`, command);
        return;
      case 'runtime': {
        const before = this.#commands.get('runtime');
        const values = new Map(before?.kind === 'runtime' ? before.values : []);
        for (const [name, value] of command.values) values.set(name, value);
        this.#put('runtime', { kind: 'runtime', values: [...values] });
        return;
      }
      case 'tap':
        this.#put('tap', command);
        return;
      case 'untap':
        this.#commands.delete('tap');
        return;
      case 'reset-counters':
      case 'reopen-logs':
      case 'stop':
        return;
    }
  }

  /** In the order in which they were given. */
  list(): readonly Command[] {
    return [...this.#commands.values()];
  }

  #put(key: string, command: Command): void {
    this.#commands.delete(key);
    this.#commands.set(key, command);
  }
}
