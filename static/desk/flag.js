import { byId } from "./dom.js";

// A note to the admins, in a menu beside the verdicts.
export class FlagMenu {
  #menu = byId("flag");
  #note = byId("flag-note");
  #opener = this.#menu.querySelector("summary");

  constructor() {
    // Open at once, not on the toggle event after it: what is typed next belongs to the note.
    this.#opener.addEventListener("click", (event) => {
      event.preventDefault();
      this.#menu.open = !this.#menu.open;
      if (this.#menu.open) this.#note.focus();
    });
    byId("send-flag").addEventListener("htmx:after:request", (event) => {
      if (event.detail.ctx.response.status !== 200) return; // a notice says why; the note stays
      this.close();
      this.#opener.focus();
    });
  }

  close() {
    this.#menu.open = false;
    this.#note.value = "";
  }
}
