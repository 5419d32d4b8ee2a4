// What this build calls itself. Read by every process's version output and by node metadata.

export const MELTEMI_VERSION = '0.1.0';
/** The release of Istio's API whose fields and behaviour are meant. */
export const ISTIO_API_VERSION = '1.29';
