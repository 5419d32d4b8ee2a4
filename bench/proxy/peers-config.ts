// The same jobs in the words of HAProxy and nginx. Called by engines.ts.
import type { CertificateFiles } from './certificates.ts';
import type { HttpShape, TcpShape } from './envoy-config.ts';

const HAPROXY_HEAD = `global
  maxconn 4500
  nbthread 1
defaults
  timeout connect 5s
  timeout client 60s
  timeout server 60s
`;

const bindTls = (files: CertificateFiles | undefined, alpn: string): string =>
  files ? ` ssl crt ${files.serverBoth} ca-file ${files.ca} verify required${alpn}` : '';
/** HAProxy checks names by DNS only, and when it sends one: the chain is verified, the name is not. */
const serverTls = (files: CertificateFiles | undefined, alpn: string): string =>
  files ? ` ssl crt ${files.clientBoth} ca-file ${files.ca} verify required${alpn}` : '';

export function haproxyHttp(shape: HttpShape): string {
  const h2 = shape.upstreamTls && shape.upstreamHttp2 ? ' alpn h2' : '';
  return `${HAPROXY_HEAD}  mode http
  option http-keep-alive
frontend in
  bind 127.0.0.1:${shape.port}${bindTls(shape.downstreamTls, ' alpn h2,http/1.1')}
  ${shape.direct ? 'http-request return status 200' : 'default_backend b'}
backend b
  server s 127.0.0.1:${shape.target}${serverTls(shape.upstreamTls, h2)}
`;
}

export function haproxyTcp(shape: TcpShape): string {
  return `${HAPROXY_HEAD}  mode tcp
frontend in
  bind 127.0.0.1:${shape.port}${bindTls(shape.downstreamTls, '')}
  default_backend b
backend b
  server s 127.0.0.1:${shape.target}${serverTls(shape.upstreamTls, '')}
`;
}

const nginxHead = (pid: string): string => `daemon off;
master_process off;
worker_processes 1;
pid ${pid};
error_log stderr crit;
`;

const nginxServerTls = (files: CertificateFiles | undefined): string =>
  files
    ? `ssl_certificate ${files.serverCertificate}; ssl_certificate_key ${files.serverKey};
    ssl_client_certificate ${files.ca}; ssl_verify_client on; ssl_protocols TLSv1.2 TLSv1.3;`
    : '';
/** The same holds for nginx. */
const nginxProxyTls = (files: CertificateFiles | undefined): string =>
  files
    ? `proxy_ssl_certificate ${files.clientCertificate}; proxy_ssl_certificate_key ${files.clientKey};
    proxy_ssl_server_name on; proxy_ssl_name server.bench; proxy_ssl_protocols TLSv1.3;`
    : '';

export function nginxHttp(shape: HttpShape, pid: string): string {
  return `${nginxHead(pid)}
events { worker_connections 10000; }
http {
  access_log off;
  keepalive_requests 100000000;
  upstream b { server 127.0.0.1:${shape.target}; keepalive 256; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:${shape.port}${shape.downstreamTls ? ' ssl' : ''};
    ${nginxServerTls(shape.downstreamTls)}
    location / {
      ${
        shape.direct
          ? 'return 200;'
          : `proxy_pass ${shape.upstreamTls ? 'https' : 'http'}://b; proxy_http_version 1.1; proxy_set_header Connection "";
      ${nginxProxyTls(shape.upstreamTls)}`
      }
    }
  }
}
`;
}

/** A backend that answers 1 KB. */
export function nginxBackend(port: number, pid: string): string {
  return `${nginxHead(pid)}
events { worker_connections 10000; }
http {
  access_log off;
  keepalive_requests 100000000;
  keepalive_timeout 3600s;
  server {
    listen 127.0.0.1:${port};
    location / { return 200 "${'x'.repeat(1024)}"; }
  }
}
`;
}
