// Drafts: what is entered beside a verdict, in this browser at once, on the server soon after.

import { retryDelay } from "./outbox.js";
import { GONE } from "./server.js";

const MONTH = 30 * 24 * 3600 * 1000; // ms

// Drafts by the token of their comparison. A draft is { at, body }.
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

// Keeps the draft of the comparison on screen.
export class DraftKeeper {
  failures = 0; // in a row, for the comparison on screen
  #desk;
  #drafts;
  #timer = 0;

  constructor(desk, drafts) {
    this.#desk = desk;
    this.#drafts = drafts;
    drafts.dropOld();
    desk.screen.settled = () => {
      this.failures = 0;
      this.restore();
    };
    desk.form.addEventListener("input", (event) => {
      if (event.target.closest(".notes")) this.keepEntered();
    });
  }

  get isUnsent() {
    return Boolean(this.#drafts.get(this.#token));
  }

  get #token() {
    return this.#desk.screen.token;
  }

  keep(token, body) {
    this.#drafts.put(token, body);
  }

  keepEntered() {
    this.keep(this.#token, this.#desk.screen.notes);
    this.#sendIn(800);
    this.#desk.status();
  }

  drop() {
    clearTimeout(this.#timer);
    this.#drafts.drop(this.#token);
  }

  restore() {
    const draft = this.#drafts.get(this.#token);
    if (!draft) return;
    this.#desk.screen.notes = new URLSearchParams(draft.body);
    this.#sendIn(800);
  }

  // Another tab wrote `key`. Its annotator types there now, and not here, even where a field here has the focus.
  takeOver(key) {
    if (this.#drafts.isKey(key, this.#token)) this.restore();
  }

  async send() {
    const token = this.#token;
    const draft = this.#drafts.get(token);
    if (!draft) return;
    const { form, screen, server } = this.#desk;
    const answer = await server.post(form.dataset.draft, draft.body);
    if (answer?.ok) {
      this.#drafts.confirm(token, draft);
      this.#desk.clearNotices(`draft:${token}`);
    }
    if (token !== this.#token) return;
    this.failures = answer?.ok ? 0 : this.failures + 1;
    this.#desk.status(screen.say("Draft"));
    if (answer?.status === GONE) this.#desk.refresh(screen.say("Elsewhere"));
    else if (answer && !answer.ok) this.#desk.receive(answer, `draft:${token}`);
    if (!answer?.ok && answer?.status !== 422) this.#sendIn(retryDelay(this.failures));
  }

  #sendIn(wait) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.send(), wait);
  }
}
