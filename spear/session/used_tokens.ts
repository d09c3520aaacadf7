/** Remembers which tokens have been used: each lets in once, wherever in the cluster. */
export interface UsedTokens extends AsyncDisposable {
  /**
   * Whether this is the token's first use; exactly one of several at the same time is told so. Rejects when that
   * cannot be found out in bounded time: nobody is let in then.
   * @param until Unix milliseconds: after that the token is refused anyway.
   */
  use(userId: string, tokenId: string, until: number): Promise<boolean>;
}

/** For a node that is alone. */
export class MemoryUsedTokens implements UsedTokens {
  readonly #until = new Map<string, number>();
  #sweepAt = 1000;

  async use(_userId: string, tokenId: string, until: number): Promise<boolean> {
    if (this.#until.has(tokenId)) return false;
    if (this.#until.size >= this.#sweepAt) this.#sweep();
    this.#until.set(tokenId, until);
    return true;
  }

  get size(): number {
    return this.#until.size;
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  #sweep(): void {
    const now = Date.now();
    for (const [id, until] of this.#until) if (until < now) this.#until.delete(id);
    this.#sweepAt = Math.max(1000, 2 * this.#until.size);
  }
}
