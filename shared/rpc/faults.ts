import { RpcError } from "./contract.ts";

/**
 * The answer of an instance is not an answer of the service: another program's page, a broken body, a shape that
 * violates the contract, or no proof of the cluster key. The fault lies with the instance, not with the call.
 */
export class InstanceFault extends RpcError {
  /** The call cannot have had an effect, so it may be sent to another instance whatever its method. */
  readonly noEffect: boolean;

  constructor(
    code: "unavailable" | "unauthenticated",
    message: string,
    options: { readonly noEffect?: boolean; readonly cause?: unknown } = {},
  ) {
    super(code, message, { retryable: false, cause: options.cause });
    this.noEffect = options.noEffect ?? false;
  }

  /** The same fault when only a probe was sent. */
  withoutEffect(): InstanceFault {
    const { code, message, cause } = this;
    const kind = code === "unauthenticated" ? code : "unavailable";
    return new InstanceFault(kind, message, { noEffect: true, cause });
  }
}
