// SETTINGS of HTTP/2: ours, and what the peer's mean. Used by the session.
import {
  DEFAULT_WINDOW,
  FLOW_CONTROL_ERROR,
  FRAME_HEAD,
  FRAME_SIZE_ERROR,
  MAX_FRAME,
  MAX_WINDOW,
  NO_ERROR,
  PROTOCOL_ERROR,
  SETTINGS,
  SETTINGS_ENABLE_CONNECT_PROTOCOL,
  SETTINGS_ENABLE_PUSH,
  SETTINGS_HEADER_TABLE_SIZE,
  SETTINGS_INITIAL_WINDOW_SIZE,
  SETTINGS_MAX_CONCURRENT_STREAMS,
  SETTINGS_MAX_FRAME_SIZE,
  writeFrameHead,
  writeNumber,
} from './h2-frames.ts';
import type { H2Options } from './h2-options.ts';
import type { H2Session } from './h2-session.ts';
import type { H2Writer } from './h2-writer.ts';

/** Bytes of one setting. */
const SETTING = 6;
const LARGEST_FRAME = 0xffffff;

export function writeSettings(writer: H2Writer, options: H2Options, server: boolean): void {
  const list: [number, number][] = [[SETTINGS_HEADER_TABLE_SIZE, options.tableSize]];
  if (server) list.push([SETTINGS_ENABLE_CONNECT_PROTOCOL, options.allowConnect ? 1 : 0]);
  else list.push([SETTINGS_ENABLE_PUSH, 0]);
  list.push([SETTINGS_MAX_CONCURRENT_STREAMS, options.maxStreams]);
  if (options.streamWindow !== DEFAULT_WINDOW) list.push([SETTINGS_INITIAL_WINDOW_SIZE, options.streamWindow]);
  const from = writer.reserve(FRAME_HEAD + list.length * SETTING);
  const out = writer.buffer;
  let at = writeFrameHead(out, from, list.length * SETTING, SETTINGS, 0, 0);
  for (const [id, value] of list) {
    out[at] = id >>> 8;
    out[at + 1] = id;
    at = writeNumber(out, at + 2, value);
  }
  writer.commit(at);
}

/** Takes over `bytes[start, end)`; returns the code of what is wrong with it. */
export function applySettings(session: H2Session, bytes: Buffer, start: number, end: number): number {
  if ((end - start) % SETTING !== 0) return FRAME_SIZE_ERROR;
  for (let at = start; at < end; at += SETTING) {
    const code = apply(session, bytes.readUInt16BE(at), bytes.readUInt32BE(at + 2));
    if (code !== NO_ERROR) return code;
  }
  return NO_ERROR;
}

function apply(session: H2Session, id: number, value: number): number {
  switch (id) {
    case SETTINGS_HEADER_TABLE_SIZE:
      session.encoder.allow(value);
      return NO_ERROR;
    case SETTINGS_ENABLE_PUSH:
      return value > 1 ? PROTOCOL_ERROR : NO_ERROR;
    case SETTINGS_MAX_CONCURRENT_STREAMS:
      session.peerMaxStreams = value;
      return NO_ERROR;
    case SETTINGS_INITIAL_WINDOW_SIZE:
      return value <= MAX_WINDOW && session.setPeerStreamWindow(value) ? NO_ERROR : FLOW_CONTROL_ERROR;
    case SETTINGS_MAX_FRAME_SIZE:
      return value < MAX_FRAME || value > LARGEST_FRAME ? PROTOCOL_ERROR : NO_ERROR;
    case SETTINGS_ENABLE_CONNECT_PROTOCOL:
      if (value > 1) return PROTOCOL_ERROR;
      session.peerConnect = value === 1;
      return NO_ERROR;
    default:
      return NO_ERROR;
  }
}
