// original_ip_detection_extensions: who the client is when an earlier proxy says so, in x-forwarded-for or in a header of its
// own. Read by settings.ts; asked by request-headers.ts, in order, until one knows.
import type { TypedExtensionConfig } from '#proto/envoy/config/core/v3/extension_pb.js';
import { CustomHeaderConfigSchema } from '#proto/envoy/extensions/http/original_ip_detection/custom_header/v3/custom_header_pb.js';
import { XffConfigSchema } from '#proto/envoy/extensions/http/original_ip_detection/xff/v3/xff_pb.js';
import { HttpStatusSchema } from '#proto/envoy/type/v3/http_status_pb.js';
import { parseIp } from '../config/address.ts';
import { buildExtension, type Extension, extension } from '../config/any.ts';
import { join, only } from '../config/fields.ts';
import { type HeaderMap, headerName } from './header-map.ts';
import { H } from './names.ts';

export interface Detected {
  /** Undefined: it does not know. */
  readonly address: string | undefined;
  /** An address of ours makes the request an internal one. */
  readonly trusted: boolean;
  /** The request is answered with this status; 0 = it goes on. */
  readonly rejectWith: number;
}

export type Detector = (headers: HeaderMap) => Detected;

const FORBIDDEN = 403;
const UNKNOWN: Detected = { address: undefined, trusted: false, rejectWith: 0 };

const KINDS: readonly Extension<undefined, Detector>[] = [
  extension(XffConfigSchema, (message, _context, path): Detector => {
    only(XffConfigSchema, message, path, ['xff_num_trusted_hops']);
    return (headers) => lastForwarded(headers, message.xffNumTrustedHops);
  }),
  extension(CustomHeaderConfigSchema, (message, _context, path): Detector => {
    only(CustomHeaderConfigSchema, message, path, [
      'header_name',
      'allow_extension_to_set_address_as_trusted',
      'reject_with_status',
    ]);
    const { rejectWithStatus: status, allowExtensionToSetAddressAsTrusted: trusted } = message;
    if (status) only(HttpStatusSchema, status, join(path, 'reject_with_status'), ['code']);
    // Envoy answers with no status that is none of an error.
    const code = status && (status.code >= 400 && status.code < 600 ? status.code : FORBIDDEN);
    const name = headerName(message.headerName.toLowerCase());
    const unknown: Detected = code === undefined ? UNKNOWN : { ...UNKNOWN, rejectWith: code };
    return (headers) => {
      const address = headers.get(name);
      return address !== undefined && parseIp(address) ? { address, trusted, rejectWith: 0 } : unknown;
    };
  }),
];

/** The address before those that `hops` trusted proxies wrote. */
function lastForwarded(headers: HeaderMap, hops: number): Detected {
  const text = headers.getAll(H.forwardedFor);
  if (text === undefined) return UNKNOWN;
  const list = text.split(',');
  // A negative index would be looked up as a property's name.
  const address = hops < list.length ? list[list.length - 1 - hops]?.trim() : undefined;
  return address !== undefined && parseIp(address) ? { address, trusted: list.length === 1, rejectWith: 0 } : UNKNOWN;
}

export function compileDetectors(messages: readonly TypedExtensionConfig[], path: string): readonly Detector[] {
  return messages.map((message, i) => {
    const at = `${path}[${i}]`;
    return buildExtension(KINDS, message.typedConfig, message.name, undefined, join(at, 'typed_config'));
  });
}
