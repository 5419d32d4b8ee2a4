€
ı

listener_0
0.0.0.0êN÷”
-envoy.filters.network.http_connection_manager"°
etype.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager∑ingress_http"T
local_routeE
local_service*1

/*
service_envoyproxy_io2www.envoyproxy.io*a
envoy.filters.http.router"D
Btype.googleapis.com/envoy.extensions.filters.http.router.v3.Routerjn
envoy.access_loggers.stdout"O
Mtype.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog‡
service_envoyproxy_ioà¬Ü
envoy.transport_sockets.tlsg
Ptype.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContextwww.envoyproxy.ioä7
service_envoyproxy_io


www.envoyproxy.ioªb
	127.0.0.1≠M