// Waiting without sleeping: every wait ends at an event or at a deadline that says what did not come.
import { setTimeout as pause } from 'node:timers/promises';

export const DEADLINE_MS = Number(process.env.XPUSH_DEADLINE_MS ?? 8_000);

/** The promise's value, or a failure that names what was awaited. */
export function within(promise, what, ms = DEADLINE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    const error = new Error(`no ${what} within ${ms} ms`);
    timer = setTimeout(() => reject(error), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Asks again and again until `probe` answers something true; for state that sends no event. */
export async function until(probe, what, ms = DEADLINE_MS) {
  const end = performance.now() + ms;
  const failure = new Error(`not ${what} within ${ms} ms`);
  for (;;) {
    const value = await probe();
    if (value) return value;
    if (performance.now() > end) throw failure;
    await pause(10);
  }
}

/** The next `name` event of an emitter (Node's or the browser's kind). */
export function next(emitter, name, ms = DEADLINE_MS) {
  const on = emitter.once ? 'once' : 'addEventListener';
  return within(new Promise((resolve) => emitter[on](name, resolve)), `"${name}" event`, ms);
}

/** What has come so far, in order, and waits for what has not. */
export class Inbox {
  items = [];
  #watchers = new Set();

  push(item) {
    this.items.push(item);
    for (const check of this.#watchers) check();
  }

  /** The first item that matches, be it here already or still to come. */
  async first(match, what = 'matching item', ms = DEADLINE_MS) {
    await this.#watch(() => this.items.some(match), what, ms);
    return this.items.find(match);
  }

  /** The first `count` items. */
  async take(count, ms = DEADLINE_MS) {
    await this.#watch(() => this.items.length >= count, `${count} items`, ms);
    return this.items.slice(0, count);
  }

  async #watch(done, what, ms) {
    let check;
    const came = new Promise((resolve) => {
      check = () => done() && resolve();
      this.#watchers.add(check);
      check();
    });
    try {
      await within(came, what, ms);
    } catch (error) {
      error.message += `; ${this.items.length} came, the last: ${JSON.stringify(this.items.slice(-3)).slice(0, 600)}`;
      throw error;
    } finally {
      this.#watchers.delete(check);
    }
  }
}
