/** How benchmarks run Centrifugo 6: by the environment, with its own defaults for all that is not here. */

export interface CentrifugoSettings {
  readonly port: number;
  /** Keeps as many messages for as long as a spear does by default, and numbers them. */
  readonly history?: boolean;
  /** What carries messages between nodes; default: there is one node. */
  readonly redis?: string;
}

/** Environment variables. Clients need no tokens, and may publish. */
export function centrifugoSettings({ port, history = false, redis }: CentrifugoSettings) {
  const settings: Readonly<Record<string, string>> = {
    CLIENT_INSECURE: "true",
    HTTP_SERVER_ADDRESS: "127.0.0.1",
    HTTP_SERVER_PORT: `${port}`,
    LOG_LEVEL: "error",
    ...(history
      ? {
        CHANNEL_WITHOUT_NAMESPACE_HISTORY_SIZE: "1000",
        CHANNEL_WITHOUT_NAMESPACE_HISTORY_TTL: "300s",
        CHANNEL_WITHOUT_NAMESPACE_FORCE_RECOVERY: "true",
      }
      : {}),
    ...(redis === undefined ? {} : { ENGINE_TYPE: "redis", ENGINE_REDIS_ADDRESS: redis }),
  };
  return Object.fromEntries(
    Object.entries(settings).map(([key, value]) => [`CENTRIFUGO_${key}`, value]),
  );
}
