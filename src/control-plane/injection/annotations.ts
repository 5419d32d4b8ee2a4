// The pod annotations the injector obeys: each has a check, and those not supported are refused by name. Pure.

type Check = (value: string) => boolean;
export type Annotations = Readonly<Record<string, string>>;

const bool: Check = (v) => v === 'true' || v === 'false';
const port: Check = (v) => /^\d+$/.test(v) && Number(v) <= 65535;
const seconds: Check = (v) => /^\d+$/.test(v) && Number(v) <= 0x7fffffff;
const quantity: Check = (v) => /^\d+(\.\d+)?(m|k|M|G|Ki|Mi|Gi)?$/.test(v);
const ports: Check = (v) => v === '' || v.split(',').every((p) => port(p.trim()));
const anyPorts: Check = (v) => v === '*' || ports(v);
const cidr: Check = (v) => /^[0-9a-fA-F.:]+\/\d{1,3}$/.test(v);
const cidrs: Check = (v) => v === '' || v.split(',').every((c) => cidr(c.trim()));
const anyCidrs: Check = (v) => v === '*' || cidrs(v);
const names: Check = (v) => v === '' || v.split(',').every((n) => /^[A-Za-z0-9_.@-]{1,15}$/.test(n.trim()));
const level: Check = (v) => /^(trace|debug|info|warning|warn|error|critical|off)$/.test(v);
const json: Check = (v) => {
  try {
    JSON.parse(v);
    return true;
  } catch {
    return false;
  }
};
const some: Check = (v) => v !== '';

const OBEYED: Readonly<Record<string, Check>> = {
  'sidecar.istio.io/inject': () => true,
  'sidecar.istio.io/status': () => true,
  'proxy.istio.io/config': () => true,
  'proxy.istio.io/overrides': json,
  'sidecar.istio.io/proxyCPU': quantity,
  'sidecar.istio.io/proxyCPULimit': quantity,
  'sidecar.istio.io/proxyMemory': quantity,
  'sidecar.istio.io/proxyMemoryLimit': quantity,
  'sidecar.istio.io/proxyImage': some,
  'sidecar.istio.io/logLevel': level,
  'sidecar.istio.io/componentLogLevel': some,
  'sidecar.istio.io/agentLogLevel': some,
  'sidecar.istio.io/statsInclusionPrefixes': some,
  'sidecar.istio.io/statsInclusionSuffixes': some,
  'sidecar.istio.io/statsInclusionRegexps': some,
  'sidecar.istio.io/interceptionMode': (v) => v === 'REDIRECT',
  'sidecar.istio.io/userVolume': json,
  'sidecar.istio.io/userVolumeMount': json,
  'sidecar.istio.io/rewriteAppHTTPProbers': bool,
  'sidecar.istio.io/nativeSidecar': bool,
  'status.sidecar.istio.io/port': port,
  'readiness.status.sidecar.istio.io/initialDelaySeconds': seconds,
  'readiness.status.sidecar.istio.io/periodSeconds': seconds,
  'readiness.status.sidecar.istio.io/failureThreshold': seconds,
  'traffic.sidecar.istio.io/includeOutboundIPRanges': anyCidrs,
  'traffic.sidecar.istio.io/excludeOutboundIPRanges': cidrs,
  'traffic.sidecar.istio.io/includeOutboundPorts': ports,
  'traffic.sidecar.istio.io/excludeOutboundPorts': ports,
  'traffic.sidecar.istio.io/includeInboundPorts': anyPorts,
  'traffic.sidecar.istio.io/excludeInboundPorts': ports,
  'traffic.sidecar.istio.io/excludeInterfaces': names,
  'traffic.sidecar.istio.io/kubevirtInterfaces': names,
  'istio.io/reroute-virtual-interfaces': names,
  'prometheus.istio.io/merge-metrics': bool,
  // Ours: which program the agent runs as the proxy.
  'proxy.meltemi.dev/engine': (v) => v === 'meltemi' || v === 'envoy',
  'inject.istio.io/templates': (v) => v === 'sidecar' || v === 'gateway',
};

/** Real annotations of Istio without effect here: refused, so that nobody relies on them. */
const UNSUPPORTED = [
  'sidecar.istio.io/bootstrapOverride',
  'sidecar.istio.io/proxyImageType',
  'sidecar.istio.io/extraStatTags',
  'sidecar.istio.io/statsHistogramBuckets',
  'sidecar.istio.io/statsCompression',
  'readiness.status.sidecar.istio.io/applicationPorts',
];

const OURS =
  /^((sidecar|status\.sidecar|readiness\.status\.sidecar|traffic\.sidecar|proxy|prometheus|inject)\.istio\.io|proxy\.meltemi\.dev)\//;

/** One text for every annotation that cannot be obeyed; empty when all can. */
export function checkAnnotations(annotations: Annotations): readonly string[] {
  const wrong: string[] = [];
  for (const [name, value] of Object.entries(annotations)) {
    if (UNSUPPORTED.includes(name)) {
      wrong.push(`annotation '${name}' is not supported by this version of Meltemi`);
      continue;
    }
    const check = OBEYED[name];
    if (check && !check(value)) {
      const why =
        name === 'sidecar.istio.io/interceptionMode'
          ? 'only REDIRECT is supported by this version of Meltemi'
          : 'it does not have the form this annotation takes';
      wrong.push(`invalid value '${value}' for annotation '${name}': ${why}`);
    } else if (!check && OURS.test(name)) wrong.push(`annotation '${name}' is unknown; check its spelling`);
  }
  return wrong;
}
