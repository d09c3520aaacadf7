/** What the chat knows: the conversations with their lines and unread marks. The library does everything about connections. */
import type { Group, Gru, GruError, Message, Missed, Person } from "@gru/client";

export interface Me {
  readonly id: number;
  readonly name: string;
}

export interface Line {
  /** Made by the sender, so that a line that was sent again is one line. */
  readonly key: string;
  readonly kind: "text" | "hello" | "missed";
  readonly fromId: string;
  readonly name: string;
  readonly text: string;
  /** Unix milliseconds. */
  readonly at: number;
  state: "sending" | "sent" | "failed";
}

/** What is kept over a reload of the page. */
interface Kept {
  readonly title: string;
  readonly lines: Line[];
  readonly unread: number;
  readonly greeted: boolean;
}

const linesKept = 200;
const history = 50;

export class Conversation {
  readonly key: string;
  readonly target: Group | Person;
  /** Undefined: a private talk. */
  readonly group: Group | undefined;
  title: string;
  lines: Line[] = [];
  unread = 0;
  greeted = false;

  constructor(key: string, target: Group | Person, group: Group | undefined, title: string) {
    this.key = key;
    this.target = target;
    this.group = group;
    this.title = title;
    const kept: Kept | null = JSON.parse(sessionStorage.getItem(`talk ${key}`) ?? "null");
    if (kept !== null) ({ lines: this.lines, unread: this.unread, greeted: this.greeted } = kept);
    if (kept !== null && group === undefined) this.title = kept.title;
  }

  get newest(): Line | undefined {
    return this.lines.findLast(({ kind }) => kind === "text");
  }

  save(): void {
    this.lines.splice(0, this.lines.length - linesKept);
    const { title, lines, unread, greeted } = this;
    sessionStorage.setItem(`talk ${this.key}`, JSON.stringify({ title, lines, unread, greeted }));
  }
}

export class Conversations {
  readonly all = new Map<string, Conversation>();
  readonly names = new Map<string, string>();
  readonly me: Me;
  current: Conversation | undefined;
  readonly #gru: Gru;
  readonly #changed: () => void;

  constructor(gru: Gru, me: Me, changed: () => void) {
    this.#gru = gru;
    this.me = me;
    this.#changed = changed;
    this.names.set(`${me.id}`, me.name);
    const known: string[] = JSON.parse(sessionStorage.getItem("talks") ?? "[]");
    for (const key of ["g:lobby", ...known]) {
      if (key.startsWith("g:")) this.group(key.slice(2));
      else this.person(key.slice(2));
    }
    gru.user(me.id).on("message", (message) => this.#take(this.person(message.fromId), message));
    // One is looking at this page, or not: what comes meanwhile is unread.
    document.addEventListener("visibilitychange", () => this.#read());
  }

  nameOf(id: string): string {
    return this.names.get(id) ?? `Person ${id}`;
  }

  group(id: string): Conversation {
    const known = this.all.get(`g:${id}`);
    if (known !== undefined) return known;
    const group = this.#gru.group(id, { presence: true, last: history });
    const conversation = this.#add(new Conversation(`g:${id}`, group, group, id));
    group.on("message", (message) => this.#take(conversation, message));
    group.on("missed", (missed) => this.#miss(conversation, missed));
    group.on("presence", () => this.#changed());
    group.on("closed", ({ message }) => this.#note(conversation, message));
    if (!conversation.greeted) {
      conversation.greeted = true;
      this.#send(conversation, this.#line("hello", ""));
    }
    return conversation;
  }

  person(id: string): Conversation {
    const known = this.all.get(`u:${id}`);
    if (known !== undefined) return known;
    return this.#add(
      new Conversation(`u:${id}`, this.#gru.user(id), undefined, this.nameOf(id)),
    );
  }

  open(conversation: Conversation | undefined): void {
    this.current = conversation;
    this.#read();
    this.#changed();
  }

  say(conversation: Conversation, text: string): void {
    const line = this.#line("text", text);
    conversation.lines.push(line);
    this.#send(conversation, line);
  }

  #line(kind: Line["kind"], text: string): Line {
    const key = `${this.me.id}-${Date.now()}-${Math.random().toString(36).slice(2)}`;
    const { id, name } = this.me;
    return { key, kind, fromId: `${id}`, name, text, at: Date.now(), state: "sending" };
  }

  /** The same key names the same message, also when a reloaded page sends it again. */
  #send(conversation: Conversation, line: Line): void {
    const { key, kind, name, text } = line;
    const content = JSON.stringify({ key, kind, name, text });
    conversation.target.send(content, { clientMsgId: key }).then(
      () => line.state = "sent",
      ({ code, message }: GruError) => {
        // It is sent by the next page.
        if (code !== "closed") line.state = "failed";
        if (line.state === "failed" && kind === "text") this.#note(conversation, message);
      },
    ).finally(() => this.#update(conversation));
    this.#update(conversation);
  }

  #add(conversation: Conversation): Conversation {
    this.all.set(conversation.key, conversation);
    sessionStorage.setItem("talks", JSON.stringify([...this.all.keys()]));
    for (const line of conversation.lines) {
      this.names.set(line.fromId, line.name);
      if (line.state === "sending") this.#send(conversation, line);
    }
    this.#changed();
    return conversation;
  }

  #take(conversation: Conversation, { fromId, content, createTime, id }: Message): void {
    const { key = id, kind = "text", name = this.nameOf(fromId), text = content } = parsed(content);
    this.names.set(fromId, name);
    const known = conversation.lines.find((line) => line.key === key);
    if (known !== undefined) known.state = "sent";
    else if (kind === "text" || kind === "hello") {
      conversation.lines.push({ key, kind, fromId, name, text, at: createTime, state: "sent" });
      if (kind === "text" && fromId !== `${this.me.id}`) conversation.unread++;
    }
    if (conversation.group === undefined) conversation.title = name;
    this.#read();
    this.#update(conversation);
  }

  #miss(conversation: Conversation, { from, to }: Missed): void {
    const count = to === undefined ? "Some" : `${to - from + 1}`;
    this.#note(conversation, `${count} earlier messages are not kept any more`);
  }

  #note(conversation: Conversation, text: string): void {
    conversation.lines.push({ ...this.#line("missed", text), state: "sent" });
    this.#update(conversation);
  }

  #read(): void {
    if (document.hidden || this.current === undefined || this.current.unread === 0) return;
    this.current.unread = 0;
    this.#update(this.current);
  }

  #update(conversation: Conversation): void {
    conversation.save();
    this.#changed();
  }
}

/** Other applications may send anything to a group. */
function parsed(content: string): Partial<Pick<Line, "key" | "kind" | "name" | "text">> {
  try {
    const { key, kind, name, text } = JSON.parse(content);
    if ([key, kind, name, text].every((value) => typeof value === "string")) {
      return { key, kind, name, text };
    }
  } catch {
    // As it is.
  }
  return {};
}
