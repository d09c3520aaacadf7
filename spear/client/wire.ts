/** What comes over the wire, and what it says of where to go. */

// deno-lint-ignore no-explicit-any -- nodes are trusted to keep to the contract
export type Json = any;

/** Of an event that was sent to a node. */
export interface Result {
  readonly success: boolean;
  readonly errorCode: number;
  readonly msg: string;
  readonly data: Json;
}

/** Who it is, as ticket and nodes are told. */
export interface Claims {
  readonly userId: string;
  readonly userName: string;
  readonly appType: string;
  /** Blank: none. */
  readonly affinity: string;
}

export interface Place {
  /** `http://host:port` */
  readonly addr: string;
  readonly name: string;
}

/** A way in: a token2, and the nodes that take it, the best first. */
export interface Way {
  readonly places: Place[];
  readonly token: string;
}
