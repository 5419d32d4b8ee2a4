// A running proxy of a pod, whichever engine it is: how connections get into it. Made by engine-*.ts, used by mesh.ts and the client.
import type { Socket } from 'node:net';
import type { JsonObject } from '@bufbuild/protobuf';
import type { EngineName } from './adapt.ts';
import type { Fabric, IpPort } from './fabric.ts';
import type { TestPod } from './objects.ts';

export interface ProxyOptions {
  readonly pod: TestPod;
  readonly fabric: Fabric;
  readonly bootstrap: JsonObject;
  /** Of the mesh, for files of the proxy. */
  readonly directory: string;
  readonly onLogLine: (line: string) => void;
  readonly resolve: (hostname: string) => readonly string[];
  /** Messages of the proxy itself, shown when it does not get ready. */
  readonly onMessage: (line: string) => void;
}

export interface RunningProxy {
  readonly engine: EngineName;
  /** Resolves when it has its configuration and accepts; rejects with what went wrong. */
  readonly ready: Promise<void>;
  /** A connection of the application to `destination`, as if it had been captured. */
  connect(destination: IpPort): Promise<Socket>;
  /** A connection that arrived for `local`. False: nothing listens there. */
  accept(socket: Socket, local: IpPort): boolean;
  /** Whether something listens for arrivals at this port. */
  serves(port: number): boolean;
  stop(): Promise<void>;
}

export type StartProxy = (options: ProxyOptions) => RunningProxy;
