// The judging page. Every act here is a form or a link that works without this script; the script makes it fast:
// the comparison fetched ahead is on screen at once, and the verdict travels behind it.

import { clearErrors, notify, toggleWrap } from "../whetstone.js";
import { Ahead } from "./ahead.js";
import { DraftKeeper, Drafts } from "./draft.js";
import { FlagMenu } from "./flag.js";
import { Heartbeat } from "./heartbeat.js";
import { listenToKeys } from "./keys.js";
import { clearRadios } from "./notes.js";
import { Outbox, Sender } from "./outbox.js";
import { Screen } from "./screen.js";
import { Server } from "./server.js";
import { Store } from "./store.js";
import { Tabs } from "./tabs.js";
import { Tally } from "./tally.js";

const DWELL = 300; // ms that a comparison is on screen before a verdict counts: a double click is one verdict

class Desk {
  constructor(form) {
    const { person, project } = form.dataset;
    const store = new Store(() => localStorage);
    const prefix = `whetstone:outbox:${person}:${project}:`;
    this.form = form;
    this.server = new Server(form);
    this.screen = new Screen(form, store);
    this.ahead = new Ahead();
    this.tally = new Tally();
    this.flag = new FlagMenu(this, store, `whetstone:flag:${person}:${project}:`);
    this.outbox = new Outbox(store, prefix);
    this.sender = new Sender(this.outbox, this);
    this.drafts = new DraftKeeper(this, new Drafts(store, `whetstone:draft:${person}:`));
    this.heartbeat = new Heartbeat(this);
    this.tabs = new Tabs(this, prefix);
  }

  begin() {
    this.#listen();
    // A verdict that waits in the outbox was given before this page was opened: do not ask for it again.
    const isJudged = this.outbox.holds(this.screen.token);
    this.screen.settle();
    if (isJudged) this.screen.wait();
    this.showTally();
    this.flush();
    this.fetchAhead();
    this.heartbeat.start();
  }

  // Send the verdicts and flags that wait.
  flush() {
    this.sender.flush();
    this.flag.sender.flush();
  }

  // --- Verdicts ---

  give(button) {
    const { screen } = this;
    if (!screen.token || screen.isBusy || screen.reading.look < DWELL) return;
    this.outbox.add(screen.token, screen.verdict(button));
    this.drafts.drop();
    this.flag.close();
    this.showTally();
    button.classList.add("given");
    this.enable("undo", true);
    this.enable("redo", false);
    if (!this.showAhead()) screen.wait();
    this.sender.flush();
  }

  // Post one verdict. The answer brings the next comparison, unless more verdicts are on their way.
  send({ at, body }, isMoreToCome) {
    if (isMoreToCome) body.set("more", "1");
    body.set("age", ((Date.now() - at) / 1000).toFixed(3));
    body.set("view", this.screen.view); // of what comes next, whatever this one was judged in
    if (!this.screen.isBusy) body.set("shown", this.screen.token);
    return this.server.post(this.form.action, body, { isAct: true });
  }

  taken(verdict, answer) {
    const { at, token } = verdict;
    if (answer.ok) {
      this.tally.count(verdict);
      this.screen.reading.forget(token);
      this.clearNotices(`verdict:${token}`, at);
      this.clearNotices(`draft:${token}`);
    } else this.drafts.keep(token, verdict.body); // refused: what was entered stays
    this.receive(answer, `verdict:${token}`);
    this.showTally();
    this.tabs.tell({ given: token });
  }

  postponed(answer) {
    if (answer) this.receive(answer, "verdicts");
  }

  // The server takes verdicts again, whatever it says of this one.
  resumed() {
    this.clearNotices("verdicts");
  }

  // What errors said of this no longer holds. With `at`, neither does what was shown before that act of the annotator.
  clearNotices(subject, at = 0) {
    clearErrors((about, shown) => about === subject || (!about && shown < at));
  }

  // Drop what waits to be sent: its annotator may no longer judge here, and does not want it kept.
  discard() {
    for (const outbox of [this.outbox, this.flag.outbox]) {
      for (const waiting of outbox.verdicts) outbox.drop(waiting);
    }
    for (const sender of [this.sender, this.flag.sender]) sender.isRefused = false;
    for (const subject of ["verdicts", "flags"]) this.clearNotices(subject);
    this.showTally();
    this.sender.flush();
    this.refresh();
  }

  // --- Undo and redo ---

  async step(button) {
    if (this.outbox.size) {
      await this.sender.flush();
      if (this.outbox.size) return notify(this.screen.say("Undo"), "warning");
    }
    // A redo settles the comparison on screen, with the notes that the server has.
    if (button.id === "redo") {
      await this.drafts.send();
      if (this.drafts.isUnsent) return this.status();
    }
    const { view, token: before } = this.screen;
    const at = Date.now();
    const answer = await this.server.post(button.formAction, { view, shown: before }, { isAct: true });
    if (!answer) return notify(document.getElementById("notices").dataset.unreachable, "error");
    this.ahead.drop();
    if (answer.ok) this.clearNotices(`verdict:${before}`, at);
    this.receive(answer);
    const isMoved = this.screen.token !== before;
    this.enable(button.id, isMoved);
    if (isMoved) {
      this.enable(button.id === "undo" ? "redo" : "undo", true);
      this.tally.left += button.id === "undo" ? 1 : -1;
    }
    this.showTally();
    this.tabs.tell({});
  }

  // Show whether there is something to undo or redo, as far as this page knows. Another device may have judged
  // meanwhile, so a press is sent all the same.
  enable(id, isPossible) {
    document.getElementById(id).setAttribute("aria-disabled", String(!isPossible));
  }

  // --- Views of the texts ---

  // Show the texts in another view, from here on: what was fetched ahead was fetched in the old one.
  async turn(view, { isTold = false } = {}) {
    const { screen } = this;
    const [before, ahead] = [screen.view, this.ahead.html];
    const at = Date.now();
    screen.view = view;
    this.ahead.drop();
    if (!screen.token || (await this.#redraw())) {
      this.clearNotices("view", at);
      if (!isTold) this.tabs.tell({ view });
    } else if (screen.view === view) {
      screen.view = before;
      if (this.ahead.isEmpty) this.ahead.html = ahead;
    }
    this.fetchAhead();
  }

  // Fetch the texts on screen in the chosen view, and return whether that view is on.
  async #redraw() {
    const { screen } = this;
    const { token, view } = screen;
    const answer = await this.server.texts(screen.textsUrl, view);
    // It was judged or turned meanwhile, or another answer came first: drawn again, it would lose its place.
    if (screen.token !== token || screen.view !== view || screen.isInView) return screen.view === view;
    if (answer?.ok) screen.redraw(answer.html);
    else if (answer) this.refresh(screen.say("Elsewhere")); // it was judged since, on another device
    else notify(document.getElementById("notices").dataset.unreachable, "error");
    return Boolean(answer);
  }

  // --- What comes next ---

  async fetchAhead() {
    const { ahead, screen } = this;
    if (!screen.token || !ahead.isEmpty || this.outbox.size) return;
    const answer = await this.server.post(this.form.dataset.ahead, { view: screen.view });
    if (answer?.ok && ahead.isEmpty) this.receive(answer);
  }

  // Show the comparison that was fetched ahead, if there is one, and return whether there was.
  showAhead() {
    const html = this.ahead.take();
    if (html) this.screen.show(html);
    return Boolean(html);
  }

  // Show the comparison that is due now, and say `reason` if it is another one.
  async refresh(reason) {
    const before = this.screen.token;
    const html = await this.server.page();
    if (!html || this.screen.token !== before) return; // an act was answered meanwhile: this is older
    this.receive({ ok: true, html });
    if (this.screen.token !== before) {
      this.ahead.drop();
      if (reason) notify(reason);
    }
    this.fetchAhead();
  }

  // Take in what an answer brings: a comparison unless it is judged already, the one ahead, the day's count, notices.
  // `subject` is what the errors among them are about: an act of the page, if nothing is named. A verdict whose
  // comparison does not come back is over.
  receive({ ok, html }, subject = "") {
    const { screen } = this;
    const brought = new DOMParser().parseFromString(html, "text/html");
    const fresh = brought.getElementById("comparison");
    const freshToken = fresh?.dataset.token ?? "";
    const about = subject.startsWith("verdict:") && subject !== `verdict:${freshToken}` ? "" : subject;
    for (const word of brought.querySelectorAll("template[data-word]")) {
      notify(word.content.textContent, word.dataset.word, about);
    }
    const notice = brought.querySelector("[data-notice] > span");
    if (!ok && notice) notify(notice.textContent, "error", about);
    const today = brought.querySelector("template#today");
    if (today) {
      this.tally.today = Number(today.content.textContent);
      this.showTally();
    }
    const fetched = brought.querySelector("template#ahead");
    const next = fetched?.content.firstElementChild?.dataset;
    if (next?.chosen === screen.view && !this.outbox.holds(next.token)) this.ahead.html = fetched.innerHTML;
    if (fresh && freshToken !== screen.token && !this.outbox.holds(freshToken)) screen.show(fresh.outerHTML);
    else if (screen.isBusy && !this.showAhead() && fresh) screen.settle();
    if (this.ahead.token && this.ahead.token === screen.token) this.ahead.drop();
    if (!screen.isInView) this.#redraw(); // the answer was on its way when the view was changed
  }

  // --- What the page says ---

  showTally() {
    this.tally.show(this.outbox.verdicts);
  }

  // Show how things are: verdicts and the draft on screen are saved only once the server has said so.
  status(whenSaved = this.screen.say("Saved")) {
    const senders = [this.sender, this.flag.sender].filter(({ size }) => size);
    const unsent = senders.reduce((sum, { size }) => sum + size, 0);
    const isWaiting = unsent ? senders.some(({ isSending, failures }) => !isSending || failures) : this.drafts.failures;
    const state = !unsent && !this.drafts.isUnsent ? "saved" : isWaiting ? "waiting" : "saving";
    const text = {
      saved: whenSaved,
      saving: this.screen.say("Saving"),
      waiting: unsent ? `${this.screen.say("Waiting")}${unsent}` : this.screen.say("Unsent"),
    }[state];
    document.getElementById("discard").hidden = !unsent || !senders.some(({ isRefused }) => isRefused);
    const saved = document.getElementById("saved");
    saved.dataset.state = state;
    saved.firstElementChild.textContent = text;
    if (state === "waiting") this.screen.announce(text);
  }

  // --- Events ---

  #listen() {
    const { form, screen } = this;
    form.addEventListener("submit", (event) => {
      const button = event.submitter;
      if (button && "plain" in button.dataset) return; // it leads to a page
      event.preventDefault();
      if (button?.name === "verdict" && button.value) this.give(button);
      else if (["undo", "redo"].includes(button?.id)) this.step(button);
      else if (button?.id === "send-flag") this.flag.raise();
      else if (button?.id === "discard") this.discard();
    });
    window.addEventListener("online", () => {
      this.flush();
      this.drafts.send();
    });
    clearRadios(form, () => this.drafts.keepEntered());
    form.addEventListener("click", (event) => this.#chooseView(event));
    form.addEventListener("click", ({ target }) => target.closest?.("#next-difference") && screen.nextDifference());
    listenToKeys(screen, {
      criteria: () => screen.groups.next(),
      down: () => screen.scroll(1),
      up: () => screen.scroll(-1),
      notes: () => screen.focusNotes(),
      wrap: toggleWrap,
    });
    this.#listenToSwaps();
  }

  // The key or button of a view that is on leads back to the one before it.
  #chooseView(event) {
    const button = event.target.closest?.(".segments button");
    if (!button) return;
    event.preventDefault();
    const isOn = button.hasAttribute("aria-current");
    this.turn(isOn && button.dataset.view === "differences" ? this.screen.plainView : isOn ? "rendered" : button.dataset.view);
  }

  // The page of an empty queue looks for more by itself, by htmx.
  #listenToSwaps() {
    document.addEventListener("htmx:after:swap", ({ detail }) => {
      if (!detail.ctx.sourceElement?.closest?.("#comparison")) return;
      this.screen.settle();
      this.fetchAhead();
    });
  }
}

new Desk(document.getElementById("desk")).begin();
