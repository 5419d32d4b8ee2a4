// A TCP echo that puts a word before each line it returns. Image istio/tcp-echo-server; arguments: PORT[,PORT…] PREFIX.
import { createServer } from 'node:net';

/** A line longer than this ends the connection. */
const MAX_LINE_BYTES = 64 * 1024;
const [ports = '9000,9001', prefix = 'hello'] = process.argv.slice(2);

for (const port of ports.split(',')) {
  createServer((socket) => {
    let pending = '';
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => {
      pending += chunk;
      if (pending.length > MAX_LINE_BYTES) return socket.destroy();
      const lines = pending.split('\n');
      pending = lines.pop()!;
      for (const line of lines) socket.write(`${prefix} ${line}\n`);
    });
    socket.on('end', () => socket.end(pending === '' ? '' : `${prefix} ${pending}`));
    socket.on('error', () => socket.destroy());
  }).listen(Number(port), '::', () => console.log(`listening on ${port}`));
}
process.on('SIGTERM', () => process.exit(0));
