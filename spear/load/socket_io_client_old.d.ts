/** What tests use of socket.io-client 1 and 2, which ship no types. */
export default function io(address: string, options: object): {
  // deno-lint-ignore no-explicit-any
  on(event: string, listener: (argument: any) => void): unknown;
  emit(event: string, ...args: unknown[]): unknown;
  disconnect(): unknown;
  readonly connected: boolean;
};
