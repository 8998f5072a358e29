import { notify } from "../whetstone.js";
import { byId } from "./dom.js";
import { Outbox, Sender } from "./outbox.js";

// A note to the admins, in a menu beside the verdicts. Notes are kept in this browser until the server has them, as
// verdicts are: a verdict may overtake its note.
export class FlagMenu {
  outbox;
  sender;
  #desk;
  #menu = byId("flag");
  #note = byId("flag-note");
  #opener = this.#menu.querySelector("summary");
  #token = ""; // of the comparison that the note is about

  constructor(desk, store, prefix) {
    this.#desk = desk;
    this.outbox = new Outbox(store, prefix);
    this.sender = new Sender(this.outbox, this);
    // Open at once, not on the toggle event after it: what is typed next belongs to the note.
    this.#opener.addEventListener("click", (event) => {
      event.preventDefault();
      this.#menu.open = !this.#menu.open;
      if (!this.#menu.open) return;
      if (!this.#note.value) this.#token = desk.screen.token;
      this.#note.focus();
    });
  }

  close() {
    this.#menu.open = false;
    this.#note.value = "";
  }

  // Raise the flag with what is written.
  raise() {
    const { screen } = this.#desk;
    const token = this.#token || screen.token;
    if (!token) return;
    this.outbox.add(token, new URLSearchParams({ token, flag_note: this.#note.value }));
    this.close();
    this.#opener.focus();
    this.sender.flush();
  }

  // --- What the sender asks for, and tells ---

  send({ body }) {
    return this.#desk.server.post(byId("send-flag").formAction, body, { isAct: true });
  }

  taken({ token, body }, answer) {
    const { screen } = this.#desk;
    const isShown = token === screen.token;
    if (answer.ok) return notify(screen.say(isShown ? "Flagged" : "FlaggedBefore"), "success");
    this.#desk.receive(answer); // refused: the note stays, for its comparison
    if (this.#note.value) return;
    [this.#token, this.#note.value] = [token, body.get("flag_note")];
    this.#menu.open = isShown;
  }

  postponed(answer) {
    this.#desk.postponed(answer);
  }

  status() {
    this.#desk.status();
  }
}
