// rtnetlink in a few messages: links, addresses and routes, without starting a process for each.
// Called by localkube's network inside inNetns(); the format is that of linux/rtnetlink.h.
import { closeSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import {
  AF_INET,
  AF_NETLINK,
  interfaceIndex,
  ipv4Bytes,
  openSocket,
  receiveNow,
  SOCK_RAW,
  sendTo,
} from './syscalls.ts';

const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_NEWADDR = 20;
const RTM_NEWROUTE = 24;
const NLMSG_ERROR = 2;
const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
const NLM_F_REPLACE = 0x100;
const NLM_F_EXCL = 0x200;
const NLM_F_CREATE = 0x400;
const IFF_UP = 1;
const IFLA_IFNAME = 3;
const IFLA_LINKINFO = 18;
const IFLA_NET_NS_FD = 28;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const VETH_INFO_PEER = 1;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PREFSRC = 7;
const RT_TABLE_MAIN = 254;
const RT_TABLE_LOCAL = 255;
const RTPROT_STATIC = 4;
const RT_SCOPE_UNIVERSE = 0;
const RT_SCOPE_LINK = 253;
const RT_SCOPE_HOST = 254;
const RTN_UNICAST = 1;
const RTN_LOCAL = 2;
const RTNH_F_ONLINK = 4;
/** An acknowledgement repeats the request's header only, an error the whole request: both are small. */
const MAX_REPLY_BYTES = 8192;

/** The kernel refused a request. `code` is the errno name. */
export class NetlinkError extends Error {
  readonly code: string;
  constructor(what: string, errno: number) {
    const code = getSystemErrorName(-errno);
    super(`${what}: ${code}`);
    this.name = 'NetlinkError';
    this.code = code;
  }
}

/** A conversation with the kernel about the namespace the thread is in now. Close it before leaving. */
export interface Netlink {
  /** A veth pair; the far end goes into the namespace of `peerNetnsFd`. */
  addVeth(name: string, peerName: string, peerNetnsFd: number): void;
  setUp(name: string): void;
  /** No error when it is not there. */
  deleteLink(name: string): void;
  /** Adds the address or leaves it as it is. */
  setAddress(name: string, ip: string, prefixLength: number): void;
  setRoute(route: Route): void;
  close(): void;
}

export interface Route {
  /** `0.0.0.0/0` is the default route. */
  readonly destination: string;
  readonly device: string;
  /** Reached on `device` even though no address of it says so. */
  readonly gateway?: string;
  readonly source?: string;
  /** The range counts as this machine's own addresses. */
  readonly local?: boolean;
}

export function openNetlink(): Netlink {
  const fd = openSocket(AF_NETLINK, SOCK_RAW);
  let seq = 0;
  const request = (what: string, type: number, flags: number, body: readonly Buffer[]): void => {
    seq += 1;
    sendTo(fd, message(type, NLM_F_REQUEST | NLM_F_ACK | flags, seq, body));
    const reply = receiveNow(fd, MAX_REPLY_BYTES);
    if (reply.length < 20 || reply.readUInt16LE(4) !== NLMSG_ERROR || reply.readUInt32LE(8) !== seq)
      throw new Error(`${what}: the kernel's answer is not an acknowledgement`);
    const errno = -reply.readInt32LE(16);
    if (errno !== 0) throw new NetlinkError(what, errno);
  };
  return {
    addVeth(name, peerName, peerNetnsFd) {
      const peer = Buffer.concat([linkHeader(0, 0), text(IFLA_IFNAME, peerName), u32(IFLA_NET_NS_FD, peerNetnsFd)]);
      const data = attribute(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, peer));
      const info = attribute(IFLA_LINKINFO, Buffer.concat([text(IFLA_INFO_KIND, 'veth'), data]));
      const body = [linkHeader(0, 0), text(IFLA_IFNAME, name), info];
      request(`adding interface ${name}`, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body);
    },
    setUp(name) {
      request(`bringing up ${name}`, RTM_NEWLINK, 0, [linkHeader(IFF_UP, IFF_UP), text(IFLA_IFNAME, name)]);
    },
    deleteLink(name) {
      if (interfaceIndex(name) === undefined) return;
      request(`deleting interface ${name}`, RTM_DELLINK, 0, [linkHeader(0, 0), text(IFLA_IFNAME, name)]);
    },
    setAddress(name, ip, prefixLength) {
      const header = Buffer.alloc(8);
      header.writeUInt8(AF_INET, 0);
      header.writeUInt8(prefixLength, 1);
      header.writeUInt32LE(indexOf(name), 4);
      const bytes = Buffer.from(ipv4Bytes(ip));
      const body = [header, attribute(IFA_LOCAL, bytes), attribute(IFA_ADDRESS, bytes)];
      request(`adding ${ip}/${prefixLength} to ${name}`, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, body);
    },
    setRoute(route) {
      request(`adding route ${route.destination}`, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, routeBody(route));
    },
    close: () => closeSync(fd),
  };
}

function routeBody(route: Route): Buffer[] {
  const [address = '', length = '32'] = route.destination.split('/');
  const header = Buffer.alloc(12);
  header.writeUInt8(AF_INET, 0);
  header.writeUInt8(Number(length), 1);
  header.writeUInt8(route.local ? RT_TABLE_LOCAL : RT_TABLE_MAIN, 4);
  header.writeUInt8(RTPROT_STATIC, 5);
  header.writeUInt8(route.local ? RT_SCOPE_HOST : route.gateway ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK, 6);
  header.writeUInt8(route.local ? RTN_LOCAL : RTN_UNICAST, 7);
  header.writeUInt32LE(route.gateway ? RTNH_F_ONLINK : 0, 8);
  const body: Buffer[] = [header];
  if (length !== '0') body.push(attribute(RTA_DST, Buffer.from(ipv4Bytes(address))));
  if (route.gateway) body.push(attribute(RTA_GATEWAY, Buffer.from(ipv4Bytes(route.gateway))));
  if (route.source) body.push(attribute(RTA_PREFSRC, Buffer.from(ipv4Bytes(route.source))));
  body.push(u32(RTA_OIF, indexOf(route.device)));
  return body;
}

function indexOf(name: string): number {
  const index = interfaceIndex(name);
  if (index === undefined) throw new Error(`there is no interface ${name}`);
  return index;
}

function message(type: number, flags: number, seq: number, body: readonly Buffer[]): Buffer {
  const header = Buffer.alloc(16);
  const whole = Buffer.concat([header, ...body]);
  whole.writeUInt32LE(whole.length, 0);
  whole.writeUInt16LE(type, 4);
  whole.writeUInt16LE(flags, 6);
  whole.writeUInt32LE(seq, 8);
  return whole;
}

function linkHeader(flags: number, mask: number): Buffer {
  const header = Buffer.alloc(16);
  header.writeUInt32LE(flags, 8);
  header.writeUInt32LE(mask, 12);
  return header;
}

function attribute(type: number, value: Buffer): Buffer {
  const length = 4 + value.length;
  const out = Buffer.alloc((length + 3) & ~3);
  out.writeUInt16LE(length, 0);
  out.writeUInt16LE(type, 2);
  out.set(value, 4);
  return out;
}

const text = (type: number, value: string): Buffer => attribute(type, Buffer.from(`${value}\0`));

function u32(type: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return attribute(type, bytes);
}
