// The verdicts and flags that the server has not confirmed yet, and how they are sent.

const RETRIES = [1, 2, 4, 8, 15, 30]; // seconds

// Return the ms to wait after so many failures in a row.
export function retryDelay(failures) {
  return RETRIES[Math.min(failures, RETRIES.length) - 1] * 1000;
}

// The verdicts not yet confirmed, oldest first. Each has a key of its own, so that two tabs never overwrite each
// other's. A verdict is { key, token, at, body }: when it was given, and the form as it was sent.
export class Outbox {
  #store;
  #prefix;

  constructor(store, prefix) {
    this.#store = store;
    this.#prefix = prefix;
  }

  add(token, body, now = Date.now()) {
    this.#store.put(`${this.#prefix}${now}:${token}`, body.toString());
  }

  get verdicts() {
    return this.#store.keys(this.#prefix).map((key) => ({
      key,
      token: key.slice(key.lastIndexOf(":") + 1),
      at: Number(key.slice(this.#prefix.length).split(":")[0]),
      body: new URLSearchParams(this.#store.get(key)),
    }));
  }

  get size() {
    return this.#store.keys(this.#prefix).length;
  }

  holds(token) {
    return this.verdicts.some((verdict) => verdict.token === token);
  }

  drop(verdict) {
    this.#store.drop(verdict.key);
  }
}

// Sends the outbox in order, one verdict at a time, and retries. `desk.send(verdict, more)` posts one and returns the
// answer, or null. `desk.taken` and `desk.postponed` hear of it, `desk.resumed` of a server that takes them again, and
// `desk.status` of every change.
export class Sender {
  failures = 0;
  isSending = false;
  isRefused = false; // whether the server refuses what waits, and not only the network
  #outbox;
  #desk;
  #timer = 0;

  constructor(outbox, desk) {
    this.#outbox = outbox;
    this.#desk = desk;
  }

  get size() {
    return this.#outbox.size;
  }

  async flush() {
    clearTimeout(this.#timer);
    if (this.isSending || !this.#outbox.size) return this.#desk.status();
    this.isSending = true;
    this.#desk.status();
    try {
      await this.#sendAll();
    } finally {
      this.isSending = false;
      this.#desk.status();
    }
  }

  flushIn(wait) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.flush(), wait);
  }

  async #sendAll() {
    for (let verdicts = this.#outbox.verdicts; verdicts.length; verdicts = this.#outbox.verdicts) {
      const [verdict] = verdicts;
      const answer = await this.#desk.send(verdict, verdicts.length > 1);
      if (!answer?.ok && answer?.status !== 422) {
        // The verdict is fine, but cannot be given now (no connection, a role taken away, another user signed in).
        if (answer) this.isRefused = [403, 404].includes(answer.status);
        this.#desk.postponed(answer);
        this.failures += 1;
        return this.flushIn(retryDelay(this.failures));
      }
      this.failures = 0;
      this.isRefused = false;
      this.#desk.resumed();
      this.#outbox.drop(verdict);
      this.#desk.taken(verdict, answer);
    }
  }
}
