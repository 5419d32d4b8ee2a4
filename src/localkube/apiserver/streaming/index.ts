// exec, attach and port-forward over WebSocket and SPDY/3.1. Called by the API server on `upgrade`, after it has
// authenticated the caller and found the pod.
export { createStreaming, type Streaming, type StreamTarget } from './handlers.ts';
