/**
 * How long a ZooKeeper session is sure to live. All times are milliseconds on the clock of `performance.now()`.
 *
 * A follower's answer alone proves little: the leader, who ends sessions, is told of a contact half a tick later, or
 * never if the two are parted. A session is at least two ticks long, so that half a tick is a quarter of it at most.
 * Therefore a contact counts once a write that was sent 0.3 sessions later has been answered by the quorum through the same
 * server: leader and follower have then exchanged what they knew. A handshake is brought before the leader itself
 * and counts with the next such write.
 */
export class SessionProof {
  /** Oldest first, of the present connection. */
  #contacts: { readonly sentAt: number; readonly provableFrom: number }[] = [];
  #provenAt = -Infinity;

  /** The leader cannot have ended the session earlier than its whole time after this; a twentieth is left to clocks' drift. */
  validUntil(timeoutMs: number): number {
    return this.#provenAt + 0.95 * timeoutMs;
  }

  disconnected(): void {
    this.#contacts = [];
  }

  /** A server took the session over. */
  handshake(sentAt: number, answeredAt: number): void {
    this.#contacts = [{ sentAt, provableFrom: answeredAt }];
  }

  /** The server answered something. */
  contact(sentAt: number, answeredAt: number, timeoutMs: number): void {
    const newest = this.#contacts.at(-1)?.sentAt ?? -Infinity;
    // Some from each of the last moments are enough, however many there are.
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
