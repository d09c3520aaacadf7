/** One frame to many sockets. */
import type { Frame, Member } from "./hub.ts";

export function fanOut(frame: Frame, members: ReadonlySet<Member>): void {
  for (const member of members) member.send(frame);
}
