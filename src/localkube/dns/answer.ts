// One question → one answer, from the cluster's records: pure. Called by dns-server.ts.
import type { Answer, Packet, Question } from 'dns-packet';
import * as dnsPacket from 'dns-packet';
import type { Lookup, Record } from './records.ts';

export type ResponseCode = 'NOERROR' | 'NXDOMAIN' | 'NOTIMP' | 'FORMERR' | 'SERVFAIL' | 'REFUSED';

const CODES: Readonly<{ [K in ResponseCode]: number }> = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
};
const TTL_SECONDS = 5;
const MAX_CNAME_HOPS = 8;
/** What fits when the client says nothing about size (RFC 1035), and the most that is ever sent in one datagram. */
export const PLAIN_UDP_BYTES = 512;
export const MAX_UDP_BYTES = 1232;

export interface Reply {
  readonly code: ResponseCode;
  readonly answers: readonly Answer[];
  readonly additionals: readonly Answer[];
}

export interface AnswerOptions {
  readonly domain: string;
  /** Moves the first of several addresses, so that clients spread. */
  readonly random: () => number;
}

/**
 * Answers from the records. Undefined: the name is not the cluster's, ask upstream. A name of the cluster that has no
 * record of the asked type is NOERROR and empty, so that a resolver asking for AAAA keeps its A answer.
 */
export function answerQuestion(records: Lookup, question: Question, options: AnswerOptions): Reply | undefined {
  const name = question.name.toLowerCase().replace(/\.$/, '');
  if (question.class !== undefined && question.class !== 'IN' && question.class !== 'ANY') return empty('REFUSED');
  const found = records.find(name);
  if (!found) return isClusterName(name, options.domain) ? empty('NXDOMAIN') : undefined;
  const answers: Answer[] = [];
  const additionals: Answer[] = [];
  follow(records, found, question.type, options, answers, additionals);
  // Answers repeat the case the client asked with.
  return {
    code: 'NOERROR',
    answers: answers.map((a) => (a.name === name ? { ...a, name: question.name } : a)),
    additionals,
  };
}

function follow(
  records: Lookup,
  first: readonly Record[],
  type: string,
  options: AnswerOptions,
  answers: Answer[],
  additionals: Answer[],
): void {
  let found: readonly Record[] | undefined = first;
  for (let hop = 0; found && hop < MAX_CNAME_HOPS; hop += 1) {
    const alias = found.find((record) => record.type === 'CNAME');
    if (alias?.type !== 'CNAME') break;
    answers.push(toAnswer(alias));
    if (type === 'CNAME') return;
    found = records.find(alias.target);
  }
  for (const record of rotate(found ?? [], options.random)) {
    if (record.type !== type && type !== 'ANY') continue;
    if (record.type === 'CNAME') continue;
    answers.push(toAnswer(record));
    if (record.type === 'SRV')
      for (const target of records.find(record.target) ?? [])
        if (target.type === 'A') additionals.push(toAnswer(target));
  }
}

function rotate<T>(list: readonly T[], random: () => number): readonly T[] {
  const at = Math.floor(random() * list.length);
  return [...list.slice(at), ...list.slice(0, at)];
}

function toAnswer(record: Record): Answer {
  const common = { name: record.name, ttl: TTL_SECONDS, class: 'IN' } as const;
  switch (record.type) {
    case 'A':
      return { ...common, type: 'A', data: record.address };
    case 'CNAME':
      return { ...common, type: 'CNAME', data: record.target };
    case 'PTR':
      return { ...common, type: 'PTR', data: record.target };
    case 'SRV':
      return { ...common, type: 'SRV', data: { target: record.target, port: record.port, priority: 0, weight: 100 } };
  }
}

export function isClusterName(name: string, domain: string): boolean {
  return name === domain || name.endsWith(`.${domain}`);
}

const empty = (code: ResponseCode): Reply => ({ code, answers: [], additionals: [] });

/** The wire form of an answer to `query`; with `maxBytes` cut to fit, marked as truncated. */
export function encodeReply(query: Packet, reply: Reply, maxBytes: number): Buffer {
  const encode = (answers: readonly Answer[], additionals: readonly Answer[], truncated: boolean): Buffer =>
    dnsPacket.encode({
      type: 'response',
      id: query.id,
      flags:
        dnsPacket.AUTHORITATIVE_ANSWER |
        dnsPacket.RECURSION_AVAILABLE |
        ((query.flags ?? 0) & dnsPacket.RECURSION_DESIRED) |
        (truncated ? dnsPacket.TRUNCATED_RESPONSE : 0) |
        CODES[reply.code],
      questions: query.questions ?? [],
      answers: [...answers],
      additionals: [...additionals],
    });
  const whole = encode(reply.answers, reply.additionals, false);
  if (whole.length <= maxBytes) return whole;
  const bare = encode(reply.answers, [], false);
  return bare.length <= maxBytes ? bare : encode([], [], true);
}

/** How large a datagram the client takes. */
export function udpLimit(query: Packet): number {
  for (const record of query.additionals ?? [])
    if (record.type === 'OPT') return Math.min(Math.max(record.udpPayloadSize, PLAIN_UDP_BYTES), MAX_UDP_BYTES);
  return PLAIN_UDP_BYTES;
}
