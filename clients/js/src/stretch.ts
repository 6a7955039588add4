import type { Data, Deletion, Edit, HistoryPage, Message, Revision } from "./protocol.ts";

/** A run of slots, both ends included. */
export interface Run {
  readonly from: number;
  readonly to: number;
}

/** What a later slot has made of a message. */
interface Change extends Revision {
  readonly data: Data;
  readonly attachments?: readonly string[];
  readonly deleted: boolean;
}

/** Which page was asked for; without either, the newest. */
export interface Range {
  readonly before?: number;
  readonly after?: number;
}

/**
 * What is known of one epoch of a channel: its messages with their newest changes folded in, and which slots were seen. The
 * result does not depend on the order in which it learns, nor on how often: of each message the deletion counts, or else the change
 * with the largest `seq`, be it told by a push or folded in by the server already.
 */
export class Stretch {
  readonly epoch: string;
  readonly #messages = new Map<number, Message>();
  readonly #changes = new Map<number, Change>();
  #known: Run[] = [];
  #sorted: readonly Message[] | undefined;

  constructor(epoch: string) {
    this.epoch = epoch;
  }

  /** Every message, ascending, as it reads now. */
  get messages(): readonly Message[] {
    this.#sorted ??= [...this.#messages.keys()].sort((a, b) => a - b).map((seq) => this.#folded(seq));
    return this.#sorted;
  }

  /** The smallest and the largest slot that is known; undefined while none is. */
  get bounds(): Run | undefined {
    const [first, last] = [this.#known[0], this.#known.at(-1)];
    return first && last && { from: first.from, to: last.to };
  }

  /** Slots between known ones that nobody has told of. */
  get gaps(): readonly Run[] {
    return this.#known.slice(1).map(({ from }, index) => ({ from: (this.#known[index] as Run).to + 1, to: from - 1 }));
  }

  /** Whether every slot of the run is known. */
  knows({ from, to }: Run): boolean {
    return to < from || this.#known.some((run) => run.from <= from && to <= run.to);
  }

  message(message: Message & { readonly seq: number }): void {
    const { seq } = message;
    const { edited, deleted, ...plain } = message;
    const revision = deleted ?? edited;
    this.#messages.set(seq, plain);
    if (revision) this.#change(seq, { ...revision, ...bodyOf(plain), deleted: deleted !== undefined });
    this.cover({ from: seq, to: seq });
  }

  edit(edit: Edit): void {
    this.#change(edit.target, { seq: edit.seq, at: edit.at, ...bodyOf(edit), deleted: false });
    this.cover({ from: edit.seq, to: edit.seq });
  }

  delete({ seq, at, target }: Deletion): void {
    this.#change(target, { seq, at, data: null, deleted: true });
    this.cover({ from: seq, to: seq });
  }

  /** What `history` answered. */
  page({ before, after }: Range, { messages, changes, first, head }: HistoryPage): void {
    for (const { seq, ...message } of messages) if (seq !== undefined) this.message({ ...message, seq });
    for (const change of changes) "data" in change ? this.edit(change) : this.delete(change);
    const slots = [...messages, ...changes].map(({ seq }) => seq ?? 0);
    if (after !== undefined) this.cover({ from: after + 1, to: Math.max(...slots, slots.length > 0 ? 0 : head) });
    else if (slots.length > 0) this.cover({ from: Math.min(...slots), to: (before ?? head + 1) - 1 });
    this.lose(first - 1);
  }

  /** Slots up to `to` cannot be had any more: what is missing among them is no gap. */
  lose(to: number): void {
    const { from } = this.bounds ?? { from: to + 1 };
    if (from <= to) this.cover({ from, to });
  }

  cover(run: Run): void {
    this.#sorted = undefined;
    if (run.to < run.from) return;
    const apart = this.#known.filter(({ from, to }) => to + 1 < run.from || run.to + 1 < from);
    const joined = this.#known.filter((known) => !apart.includes(known));
    const from = Math.min(run.from, ...joined.map((known) => known.from));
    const to = Math.max(run.to, ...joined.map((known) => known.to));
    this.#known = [...apart, { from, to }].sort((a, b) => a.from - b.from);
  }

  #change(target: number, change: Change): void {
    const present = this.#changes.get(target);
    // What is deleted stays deleted; of a user who was erased, without a slot that tells it.
    const outlives = present && (present.deleted !== change.deleted ? present.deleted : present.seq >= change.seq);
    if (!outlives) this.#changes.set(target, change);
    this.#sorted = undefined;
  }

  #folded(seq: number): Message {
    const message = this.#messages.get(seq) as Message;
    const change = this.#changes.get(seq);
    if (!change) return message;
    const { data, attachments, ...rest } = message;
    const revision = { seq: change.seq, at: change.at };
    return { ...rest, ...bodyOf(change), ...(change.deleted ? { deleted: revision } : { edited: revision }) };
  }
}

function bodyOf({ data, attachments }: { readonly data: Data; readonly attachments?: readonly string[] }) {
  return { data, ...(attachments && { attachments }) };
}
