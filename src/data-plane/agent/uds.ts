// A gRPC server on a Unix socket: takes the place of a socket file left by a dead process, never of a living one.
// Called by the SDS server and the xDS relay.
import { chmod, mkdir, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import path from 'node:path';
import { type Server, ServerCredentials } from '@grpc/grpc-js';

const PROBE_TIMEOUT_MS = 2000;

/** Whether somebody answers at this socket. */
export function isSocketAlive(file: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(file);
    const done = (alive: boolean): void => {
      socket.destroy();
      resolve(alive);
    };
    socket.setTimeout(PROBE_TIMEOUT_MS, () => done(false));
    socket.once('connect', () => done(true));
    socket.once('error', () => done(false));
  });
}

/** Rejects when the directory cannot be made or the socket is in use. */
export async function bindUnix(server: Server, file: string): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  if (await isSocketAlive(file)) throw new Error(`another process serves ${file}: stop it or choose another path`);
  await rm(file, { force: true });
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(`unix:${file}`, ServerCredentials.createInsecure(), (error) =>
      error ? reject(new Error(`cannot listen on ${file}: ${error.message}`)) : resolve(),
    ),
  );
  await chmod(file, 0o660);
}
