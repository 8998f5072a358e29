// What the browser keeps until the server has confirmed it (verdicts in an outbox, and drafts), and how it is sent.

const MONTH = 30 * 24 * 3600 * 1000; // ms
const RETRIES = [1, 2, 4, 8, 15, 30]; // seconds

// Return the ms to wait after so many failures in a row.
export function retryDelay(failures) {
  return RETRIES[Math.min(failures, RETRIES.length) - 1] * 1000;
}

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

// What is entered beside a verdict, by the token of its comparison. A draft is { at, body }.
export class Drafts {
  #store;
  #prefix;

  constructor(store, prefix) {
    this.#store = store;
    this.#prefix = prefix;
  }

  get(token) {
    return this.#store.get(this.#prefix + token);
  }

  put(token, body, now = Date.now()) {
    this.#store.put(this.#prefix + token, { at: now, body: body.toString() });
  }

  drop(token) {
    this.#store.drop(this.#prefix + token);
  }

  // Drop a draft that the server has, unless something was typed since: only what was not sent may win over what
  // another device sends.
  confirm(token, draft) {
    if (this.get(token)?.at === draft.at) this.drop(token);
  }

  dropOld(now = Date.now()) {
    for (const key of this.#store.keys(this.#prefix)) {
      if (now - this.#store.get(key)?.at > MONTH) this.#store.drop(key);
    }
  }

  isKey(key, token) {
    return key === this.#prefix + token;
  }
}

// Sends the outbox in order, one verdict at a time, and retries. `desk.send(verdict, more)` posts one and returns the
// answer, or null. `desk.taken` and `desk.postponed` hear of it, `desk.status` of every change.
export class Sender {
  failures = 0;
  isSending = false;
  #outbox;
  #desk;
  #timer = 0;

  constructor(outbox, desk) {
    this.#outbox = outbox;
    this.#desk = desk;
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
        this.#desk.postponed(answer);
        this.failures += 1;
        return this.flushIn(retryDelay(this.failures));
      }
      this.failures = 0;
      this.#outbox.drop(verdict);
      this.#desk.taken(verdict, answer);
    }
  }
}

// The server, as one annotator's page asks it.
export class Server {
  #form;

  constructor(form) {
    this.#form = form;
  }

  // Return the answer, or null if the request should be retried. An act of an annotator who has to sign in leads to the
  // sign-in page (and back, with everything that is kept here). What runs by itself does not take the page away.
  async post(url, fields, { isAct = false } = {}) {
    const body = new URLSearchParams(fields);
    body.set("person", this.#form.dataset.person); // another user may have signed in since, in another tab
    try {
      let response = await request(url, body);
      if (response.status === 403) {
        // Perhaps the form's token is older than the present sign-in: a look at the page brings a new one.
        const page = await request(this.#pageUrl);
        response = page.headers.has("HX-Redirect") ? page : await request(url, body);
      }
      const login = response.headers.get("HX-Redirect");
      if (login) {
        if (isAct) location.href = login;
        return null;
      }
      const { ok, status } = response;
      return status >= 500 || status === 429 || status === 408 ? null : { ok, status, html: await response.text() };
    } catch {
      return null;
    }
  }

  // Return the part of the page that is due now, or null.
  async page() {
    const response = await request(`${this.#pageUrl}&view=${this.#form.dataset.view}`).catch(() => null);
    if (!response?.ok || response.headers.has("HX-Redirect") || response.headers.has("HX-Refresh")) return null;
    return response.text();
  }

  // Return the answer to a request for the texts of a comparison in a view, or null if it should be retried.
  async texts(url, view) {
    const response = await request(`${url}?view=${view}`).catch(() => null);
    if (!response || response.headers.has("HX-Redirect")) return null;
    return { ok: response.ok, html: await response.text() };
  }

  // Give the claims back while the page goes away.
  leave(url) {
    const { csrfmiddlewaretoken } = this.#form.elements;
    const { person } = this.#form.dataset;
    navigator.sendBeacon(url, new URLSearchParams({ csrfmiddlewaretoken: csrfmiddlewaretoken.value, person }));
  }

  get #pageUrl() {
    return `${this.#form.action}?person=${this.#form.dataset.person}`;
  }
}

function request(url, body) {
  const csrfToken = document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] ?? "";
  return fetch(url, {
    method: body ? "POST" : "GET",
    body,
    headers: { "HX-Request": "true", "HX-Current-URL": location.href, "X-CSRFToken": csrfToken },
    signal: AbortSignal.timeout(30000),
  });
}

// --- How long comparisons are read ---

const DAY = 24 * 3600 * 1000; // ms
const IDLE = 60_000; // ms without input that still count as reading

// How long a comparison has been read, in ms: while it is visible, and there was input within the last minute.
export class Clock {
  #now;
  #elapsed = 0;
  #since; // when reading began or went on; null while the page is hidden
  #lastInput;

  constructor(now = () => performance.now(), isHidden = false) {
    this.#now = now;
    this.#lastInput = now();
    this.#since = isHidden ? null : now();
  }

  get time() {
    if (this.#since === null) return this.#elapsed;
    return this.#elapsed + Math.max(0, Math.min(this.#now(), this.#lastInput + IDLE) - this.#since);
  }

  // Note that the annotator is there. The time since they went idle does not count.
  touch() {
    if (this.#since !== null) {
      this.#elapsed = this.time;
      this.#since = this.#now();
    }
    this.#lastInput = this.#now();
  }

  // Begin again, at the time of earlier looks.
  restart(elapsed = 0) {
    this.touch();
    this.#elapsed = elapsed;
  }

  pause() {
    this.#elapsed = this.time;
    this.#since = null;
  }

  resume() {
    this.touch();
    this.#since ??= this.#now();
  }
}

// How long comparisons were read before a verdict, by token: a reload or an undo of another one interrupts the look.
export class Readings {
  #store;
  #prefix = "whetstone:read:";

  constructor(store) {
    this.#store = store;
  }

  get(token) {
    return this.#store.get(this.#prefix + token)?.time ?? 0;
  }

  put(token, time, now = Date.now()) {
    if (token) this.#store.put(this.#prefix + token, { at: now, time });
  }

  drop(token) {
    this.#store.drop(this.#prefix + token);
  }

  dropOld(now = Date.now()) {
    for (const key of this.#store.keys(this.#prefix)) {
      if (now - this.#store.get(key)?.at > DAY) this.#store.drop(key);
    }
  }
}
