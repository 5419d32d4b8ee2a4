// What a person watches: lines, colour and progress on a terminal, plain text in a pipe.
// Made once by main.ts and passed to every command.

export interface Terminal {
  readonly interactive: boolean;
  out(text: string): void;
  err(text: string): void;
  bold(text: string): string;
  dim(text: string): string;
  green(text: string): string;
  red(text: string): string;
  yellow(text: string): string;
  cyan(text: string): string;
  /** Shows `label` as running until the returned function is called; in a pipe only the end is printed. */
  progress(label: string): (end: { readonly ok: boolean; readonly note?: string }) => void;
}

export interface TerminalStreams {
  readonly stdout: { write(text: string): unknown; readonly isTTY?: boolean };
  readonly stderr: { write(text: string): unknown; readonly isTTY?: boolean };
  readonly colour: boolean;
  now(): number;
}

const FRAMES = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
const FRAME_MS = 80;

export function createTerminal(streams: TerminalStreams): Terminal {
  const paint = (code: number) => (text: string) => (streams.colour ? `\x1b[${code}m${text}\x1b[0m` : text);
  const green = paint(32);
  const red = paint(31);
  const dim = paint(2);
  const interactive = streams.stderr.isTTY === true;
  return {
    interactive,
    out: (text) => void streams.stdout.write(text),
    err: (text) => void streams.stderr.write(text),
    bold: paint(1),
    dim,
    green,
    red,
    yellow: paint(33),
    cyan: paint(36),
    progress(label) {
      const started = streams.now();
      let frame = 0;
      const draw = (): void => {
        streams.stderr.write(`\r${FRAMES[frame % FRAMES.length]} ${label}`);
        frame += 1;
      };
      const timer = interactive ? setInterval(draw, FRAME_MS) : undefined;
      if (interactive) draw();
      return ({ ok, note }) => {
        clearInterval(timer);
        const took = ((streams.now() - started) / 1000).toFixed(1);
        const mark = ok ? green('✔') : red('✘');
        const line = `${mark} ${label}${note ? ` ${note}` : ''} ${dim(`(${took} s)`)}`;
        streams.stderr.write(interactive ? `\r\x1b[K${line}\n` : `${line}\n`);
      };
    },
  };
}
