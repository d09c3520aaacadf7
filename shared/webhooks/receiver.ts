/**
 * A small receiver for the decisions that Gru asks for, as a Hono application: to start from, and for tests. It refuses
 * what is not signed, too old, or has come before.
 */
import { Hono } from "hono";
import {
  type AccessAnswer,
  type AdmissionAnswer,
  type BeforeSendAnswer,
  type Question,
  questions,
} from "./decisions.ts";
import { Replays } from "./replays.ts";
import { verifyWebhook, WebhookError } from "./signature.ts";

interface Answers {
  readonly admission: AdmissionAnswer;
  readonly subscribe: AccessAnswer;
  readonly online: AccessAnswer;
  readonly beforeSend: BeforeSendAnswer;
}

/** What the business system decides; what is left out is allowed, an admission refused. */
export type Deciders = {
  readonly [D in keyof Answers]?: (
    question: Extract<Question, { decision: D }>,
  ) => Answers[D] | Promise<Answers[D]>;
};

export interface ReceiverOptions {
  /** `whsec_…`, several separated by commas: each is accepted. */
  readonly secrets: string;
  readonly decide: Deciders;
  /** Unix seconds. */
  readonly nowS?: () => number;
}

export function receiver({ secrets, decide, nowS = () => Date.now() / 1000 }: ReceiverOptions) {
  const app = new Hono();
  const replays = new Replays();
  app.post("/decisions", async (context) => {
    const body = await context.req.text();
    try {
      const { id } = verifyWebhook(secrets, context.req.raw.headers, body, { nowS: nowS() });
      if (!replays.isFirst(id, nowS())) return context.text("webhook-id: has come before\n", 409);
    } catch (error) {
      if (error instanceof WebhookError) return context.text(`${error.message}\n`, 401);
      throw error;
    }
    const question = questions.safeParse(parsed(body));
    if (!question.success) return context.text(`${question.error.message}\n`, 400);
    return context.json(await decided(decide, question.data));
  });
  return app;
}

async function decided(decide: Deciders, question: Question): Promise<object> {
  switch (question.decision) {
    case "admission":
      return await decide.admission?.(question) ?? { action: "refuse", reason: "nobody may enter" };
    case "subscribe":
      return await decide.subscribe?.(question) ?? { action: "allow" };
    case "online":
      return await decide.online?.(question) ?? { action: "allow" };
    case "beforeSend":
      return await decide.beforeSend?.(question) ?? { action: "allow" };
  }
}

function parsed(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}
