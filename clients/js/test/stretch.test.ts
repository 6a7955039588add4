import assert from "node:assert/strict";
import { test } from "node:test";
import type { Deletion, Edit, HistoryPage, Message } from "../src/index.ts";
import { Stretch, type Range } from "../src/stretch.ts";

const ROUNDS = 400;

type Placed = Message & { readonly seq: number };
type Slot = { readonly kind: "message"; readonly message: Placed } | { readonly kind: "edit"; readonly edit: Edit } | { readonly kind: "delete"; readonly deletion: Deletion };
type Arrival = (stretch: Stretch) => void;
type Random = (below: number) => number;

/** Mulberry32: the seed is all it takes to see a failure again. */
function seeded(seed: number): Random {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

function randomHistory(random: Random): Slot[] {
  const slots: Slot[] = [];
  const alive: number[] = [];
  const base = { channel: "room", epoch: "e1", from: { user: "ann" } };
  for (let seq = 1; seq <= 12; seq += 1) {
    const shared = { ...base, seq, id: `m${seq}`, at: 1_000 + seq };
    const target = alive[random(alive.length + 1)];
    if (target === undefined || random(3) === 0) {
      alive.push(seq);
      slots.push({ kind: "message", message: { ...shared, event: "message", data: `first ${seq}` } });
    } else if (random(3) > 0) {
      slots.push({ kind: "edit", edit: { ...shared, target, data: `edit ${seq}` } });
    } else {
      alive.splice(alive.indexOf(target), 1);
      slots.push({ kind: "delete", deletion: { ...shared, target } });
    }
  }
  return slots;
}

/** What the protocol says is read when `head` is the newest slot: the server's side, written independently of the client's. */
function asRead(slots: readonly Slot[], head: number): Placed[] {
  const messages = new Map<number, Placed>();
  for (const slot of slots.slice(0, head)) {
    if (slot.kind === "message") {
      messages.set(slot.message.seq, slot.message);
      continue;
    }
    const { target, seq, at } = slot.kind === "edit" ? slot.edit : slot.deletion;
    const { edited, ...message } = messages.get(target) as Placed;
    if (slot.kind === "edit") messages.set(target, { ...message, data: slot.edit.data, edited: { seq, at } });
    else messages.set(target, { ...message, data: null, deleted: { seq, at } });
  }
  return [...messages.values()];
}

function live(slot: Slot): Arrival {
  if (slot.kind === "message") return (stretch) => stretch.message(slot.message);
  if (slot.kind === "edit") return (stretch) => stretch.edit(slot.edit);
  return (stretch) => stretch.delete(slot.deletion);
}

/** A page as it was answered when `head` was the newest slot. */
function page(slots: readonly Slot[], head: number, range: Range, limit: number): Arrival {
  const changes = slots.slice(0, head).flatMap((slot) => (slot.kind === "edit" ? slot.edit : slot.kind === "delete" ? slot.deletion : []));
  const all = [...asRead(slots, head), ...changes].sort((a, b) => a.seq - b.seq);
  const fits = all.filter(({ seq }) => seq > (range.after ?? 0) && seq < (range.before ?? Infinity));
  const taken = range.after === undefined ? fits.slice(-limit) : fits.slice(0, limit);
  const answer: HistoryPage = {
    channel: "room",
    epoch: "e1",
    first: 1,
    head,
    messages: taken.filter((slot): slot is Placed => !("target" in slot)),
    changes: taken.filter((slot): slot is Edit | Deletion => "target" in slot),
  };
  return (stretch) => stretch.page(range, answer);
}

function shuffled<T>(items: readonly T[], random: Random): T[] {
  const rest = [...items];
  return items.map(() => rest.splice(random(rest.length), 1)[0] as T);
}

test("whatever arrives in whatever order, the view is what the server reads", () => {
  for (let seed = 1; seed <= ROUNDS; seed += 1) {
    const random = seeded(seed);
    const slots = randomHistory(random);
    const arrivals = slots.map(live);
    for (let n = random(6); n > 0; n -= 1) arrivals.push(arrivals[random(arrivals.length)] as Arrival);
    for (let n = random(4); n > 0; n -= 1) {
      const head = 1 + random(slots.length);
      const range = [{}, { before: 1 + random(head + 1) }, { after: random(head) }][random(3)] as Range;
      arrivals.push(page(slots, head, range, 1 + random(6)));
    }
    const stretch = new Stretch("e1");
    for (const arrival of shuffled(arrivals, random)) arrival(stretch);
    assert.deepEqual(stretch.messages, asRead(slots, slots.length), `seed ${seed}`);
    assert.deepEqual(stretch.gaps, []);
    assert.deepEqual(stretch.bounds, { from: 1, to: slots.length });
  }
});

test("pages alone bring everything back, and gaps say what to ask for", () => {
  for (let seed = 1; seed <= ROUNDS; seed += 1) {
    const random = seeded(seed);
    const slots = randomHistory(random);
    const head = slots.length;
    const stretch = new Stretch("e1");
    const limit = 1 + random(4);
    live(slots[0] as Slot)(stretch);
    live(slots.at(-1) as Slot)(stretch);
    for (let asked = 0; stretch.gaps.length > 0; asked += 1) {
      assert.ok(asked <= head, `seed ${seed} does not end`);
      const [gap] = stretch.gaps;
      page(slots, head, { after: (gap?.from ?? 0) - 1 }, limit)(stretch);
    }
    assert.deepEqual(stretch.messages, asRead(slots, head), `seed ${seed}`);
  }
});

test("what cannot be had any more is no gap", () => {
  const stretch = new Stretch("e1");
  const message = (seq: number): Placed => ({ channel: "room", epoch: "e1", seq, id: `m${seq}`, event: "message", data: seq, from: { user: "ann" }, at: 1 });
  stretch.message(message(3));
  stretch.message(message(90));
  assert.deepEqual(stretch.gaps, [{ from: 4, to: 89 }]);
  stretch.page({ after: 3 }, { channel: "room", epoch: "e1", first: 88, head: 90, messages: [message(88), message(89), message(90)], changes: [] });
  assert.deepEqual(stretch.gaps, []);
});

test("a message that was erased is deleted, whatever edits are known of it", () => {
  const base = { channel: "room", epoch: "e1", from: { user: "ann" }, event: "message", at: 1 };
  const arrivals: Arrival[] = [
    (stretch) => stretch.edit({ ...base, seq: 2, id: "m2", target: 1, data: "edited" }),
    (stretch) => stretch.message({ ...base, seq: 1, id: "erased-1", data: null, from: { user: "$erased" }, deleted: { seq: 2, at: 1 } }),
  ];
  for (const order of [arrivals, [...arrivals].reverse()]) {
    const stretch = new Stretch("e1");
    for (const arrive of order) arrive(stretch);
    const [message] = stretch.messages;
    assert.deepEqual([message?.data, message?.deleted], [null, { seq: 2, at: 1 }]);
  }
});
