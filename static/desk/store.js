// Values by key. Where the browser refuses to keep them (a private window, a full disk), the page's memory does.
export class Store {
  #memory = new Map();
  #storage; // a function: merely naming localStorage may throw

  constructor(storage) {
    this.#storage = storage;
  }

  get(key) {
    return this.#memory.get(key) ?? attempt(() => JSON.parse(this.#storage().getItem(key)), null);
  }

  put(key, value) {
    this.#memory.set(key, value);
    attempt(() => {
      this.#storage().setItem(key, JSON.stringify(value));
      this.#memory.delete(key);
    });
  }

  drop(key) {
    this.#memory.delete(key);
    attempt(() => this.#storage().removeItem(key));
  }

  keys(prefix) {
    const all = [...this.#memory.keys(), ...attempt(() => Object.keys(this.#storage()), [])];
    return [...new Set(all)].filter((key) => key.startsWith(prefix)).sort();
  }
}

function attempt(act, otherwise) {
  try {
    return act();
  } catch {
    return otherwise;
  }
}
