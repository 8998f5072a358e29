import { notify } from "../whetstone.js";
import { byId } from "./dom.js";
import { Outbox, Sender } from "./outbox.js";

// A note to the admins, in a menu beside the verdicts. Sent notes are kept in this browser until the server has them, as
// verdicts are: a verdict may overtake its note. One that is not sent waits until its comparison is shown again.
export class FlagMenu {
  outbox;
  sender;
  #desk;
  #menu = byId("flag");
  #note = byId("flag-note");
  #opener = this.#menu.querySelector("summary");
  #about = { claim: "", token: "" }; // what the written note is about
  #aside = new Map(); // notes about other comparisons, by their claims

  constructor(desk, store, prefix) {
    this.#desk = desk;
    this.outbox = new Outbox(store, prefix);
    this.sender = new Sender(this.outbox, this);
    // Open at once, not on the toggle event after it: what is typed next belongs to the note.
    this.#opener.addEventListener("click", (event) => {
      event.preventDefault();
      this.#menu.open = !this.#menu.open;
      if (!this.#menu.open) return;
      this.#turnTo(desk.screen);
      this.#note.focus();
    });
    this.#note.addEventListener("beforeinput", () => {
      if (!this.#note.value) this.#turnTo(desk.screen);
    });
  }

  // Close the menu. What is written and was not sent waits until its comparison is shown again.
  close() {
    this.#putAside();
    this.#menu.open = false;
  }

  // Raise the flag with what is written.
  raise() {
    const { screen } = this.#desk;
    const isOther = this.#note.value && this.#about.claim !== screen.claim;
    const { claim, token } = isOther ? this.#about : screen; // an undo has drawn another token meanwhile
    if (!token) return;
    this.outbox.add(token, new URLSearchParams({ token, claim, flag_note: this.#note.value }));
    this.#note.value = "";
    this.close();
    this.#opener.focus();
    this.sender.flush();
  }

  // Show the note that was begun about a comparison.
  #turnTo({ claim, token }) {
    if (claim !== this.#about.claim) this.#putAside();
    this.#about = { claim, token };
    if (this.#note.value || !this.#aside.has(claim)) return;
    this.#note.value = this.#aside.get(claim);
    this.#aside.delete(claim);
  }

  #putAside() {
    if (this.#note.value) this.#keep(this.#about.claim, this.#note.value);
    this.#note.value = "";
  }

  #keep(claim, note) {
    this.#aside.set(claim, [this.#aside.get(claim), note].filter(Boolean).join("\n"));
  }

  // --- What the sender asks for, and tells ---

  send({ body }) {
    return this.#desk.server.post(byId("send-flag").formAction, body, { isAct: true });
  }

  taken({ body }, answer) {
    const { screen } = this.#desk;
    const claim = body.get("claim");
    const isShown = claim === screen.claim;
    this.#desk.clearNotices(`flag:${claim}`);
    if (answer.ok) return notify(screen.say(isShown ? "Flagged" : "FlaggedBefore"), "success");
    this.#desk.receive(answer, `flag:${claim}`); // refused: the note stays, for its comparison
    this.#keep(claim, body.get("flag_note"));
    if (!isShown || this.#note.value) return;
    this.#turnTo(screen);
    this.#menu.open = true;
  }

  postponed(answer) {
    if (answer) this.#desk.receive(answer, "flags");
  }

  resumed() {
    this.#desk.clearNotices("flags");
  }

  status() {
    this.#desk.status();
  }
}
