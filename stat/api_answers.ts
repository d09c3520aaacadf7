/** How the routes of the HTTP API are described, and the one shape of their errors. */
import { createRoute, type z } from "@hono/zod-openapi";
import { redact } from "@gru/shared/redact";
import { RpcError, rpcStatus } from "@gru/shared/rpc/contract";
import { failure } from "./api_schemas.ts";

export function refuse(status: number, code: string, message: string, headers = {}): Response {
  return Response.json({ error: { code, message: redact(message) } }, { status, headers });
}

export function refuseRpc({ code, message }: RpcError): Response {
  // A spear does not accept this stat's key; the caller's key is right.
  if (code === "unauthenticated") return refuse(503, "unavailable", message);
  return refuse(rpcStatus[code], code, message);
}

/** `limit: expected number to be <=1000, is "5000"` */
export function describeProblems(error: z.ZodError, value: unknown): string {
  return error.issues.map((issue) => {
    const path = issue.path.map(String);
    if (issue.code === "unrecognized_keys") return `${issue.keys.join(", ")}: unknown field`;
    const given = path.reduce<unknown>(
      (at, key) => typeof at === "object" && at !== null ? Reflect.get(at, key) : undefined,
      value,
    );
    const message = issue.message.replace(/^Invalid (input|option): |, received \w+$/g, "");
    const text = given === undefined ? "is missing" : `is ${JSON.stringify(given)?.slice(0, 120)}`;
    return `${path.join(".") || "the whole"}: ${message}, ${text}`;
  }).join("; ");
}

function error(description: string) {
  return { description, content: { "application/json": { schema: failure } } };
}

const errors = {
  400: error("An argument is missing or not valid"),
  401: error("The API key is missing or wrong"),
  404: error("It does not exist"),
  411: error("The header content-length is missing"),
  413: error("The body is too large"),
  415: error("The content type is not JSON"),
  429: error("Too many requests at once"),
  500: error("An internal error"),
  503: error(
    "Redis or a needed node cannot be reached, or not all nodes have reported after Redis lost data; try again",
  ),
  504: error(
    "A node did not answer in time. Code unknown: the command may have taken effect, or not; " +
      "repeat a publication with the same idempotency-key, which never sends it twice",
  ),
};

type ErrorStatus = keyof typeof errors;

/**
 * The possible errors, by what a route needs besides its arguments: the stored state, the spears, or that something
 * exists.
 */
const errorsOf: Readonly<Record<"state" | "spears" | "existence", readonly ErrorStatus[]>> = {
  state: [500, 503],
  spears: [429, 500, 503, 504],
  existence: [404],
};

export function answers<T extends z.ZodType>(schema: T, description: string) {
  return { 200: { description, content: { "application/json": { schema } } } };
}

export function streams(description: string) {
  return {
    200: { description, content: { "text/event-stream": { schema: { type: "string" as const } } } },
  };
}

export function body<T extends z.ZodType>(schema: T) {
  return { content: { "application/json": { schema } }, required: true };
}

/** A route that needs the API key, with all its errors. */
export function guarded<const R extends Parameters<typeof createRoute>[0]>(
  route: R,
  ...needs: readonly (keyof typeof errorsOf)[]
) {
  const { request } = route;
  const statuses: ErrorStatus[] = [
    401,
    ...(request === undefined ? [] : [400] as const),
    ...(request?.body === undefined ? [] : [411, 413, 415] as const),
    ...needs.flatMap((need) => errorsOf[need]),
  ];
  const failures = Object.fromEntries(statuses.map((status) => [status, errors[status]]));
  return createRoute({
    security: [{ apiKey: [] }],
    ...route,
    responses: { ...route.responses, ...failures },
  } as R);
}
