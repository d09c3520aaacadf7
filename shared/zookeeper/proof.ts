/**
 * How long a ZooKeeper session is certain to live. All times are milliseconds on the clock of `performance.now()`.
 *
 * An answer of a follower alone proves little. The leader ends sessions, and learns of a contact half a tick later, or
 * never if the two cannot reach each other. A session lasts at least two ticks, so half a tick is at most a quarter of
 * it. Therefore a contact counts only after a write, sent 0.3 sessions later through the same server, was answered by
 * the quorum: leader and follower have then exchanged what they knew. A handshake reaches the leader itself and counts
 * with the next such write.
 */
export class SessionProof {
  /** Oldest first, of the present connection. */
  #contacts: { readonly sentAt: number; readonly provableFrom: number }[] = [];
  #provenAt = -Infinity;

  /**
   * The leader cannot have ended the session earlier than one timeout after the last proven contact. A twentieth is
   * subtracted for the drift of clocks.
   */
  validUntil(timeoutMs: number): number {
    return this.#provenAt + 0.95 * timeoutMs;
  }

  disconnected(): void {
    this.#contacts = [];
  }

  /** A server accepted the session. */
  handshake(sentAt: number, answeredAt: number): void {
    this.#contacts = [{ sentAt, provableFrom: answeredAt }];
  }

  /** The server answered a request. */
  contact(sentAt: number, answeredAt: number, timeoutMs: number): void {
    const newest = this.#contacts.at(-1)?.sentAt ?? -Infinity;
    // A few contacts from each recent moment are enough.
    if (sentAt - newest < timeoutMs / 24) return;
    this.#contacts.push({ sentAt, provableFrom: answeredAt + 0.3 * timeoutMs });
    if (this.#contacts.length > 24) this.#contacts.shift();
  }

  /** The quorum answered a write. */
  confirm(sentAt: number): void {
    const proven = this.#contacts.findLastIndex((contact) => contact.provableFrom <= sentAt);
    this.#provenAt = this.#contacts[proven]?.sentAt ?? this.#provenAt;
    this.#contacts.splice(0, proven + 1);
  }
}
