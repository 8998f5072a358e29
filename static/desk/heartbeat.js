import { GONE } from "./server.js";

// Keeps the claim while its annotator is active, and gives it back when the page is left.
export class Heartbeat {
  #desk;
  #isActive = true; // since the last beat

  constructor(desk) {
    this.#desk = desk;
  }

  start() {
    const { form } = this.#desk;
    for (const name of ["pointermove", "keydown", "scroll"]) {
      document.addEventListener(name, () => (this.#isActive = true), { passive: true, capture: true });
    }
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.beat(true);
    });
    window.addEventListener("pagehide", () => {
      this.#desk.server.leave(form.dataset.leave);
      this.#desk.tabs.close();
    });
    const seconds = Math.min(60, (Number(form.dataset.lease) * 60) / 3);
    setInterval(() => this.beat(), seconds * 1000);
    this.takeBack();
  }

  async beat(isForced = false) {
    const { form, outbox, screen, server } = this.#desk;
    if (!screen.token || (!isForced && (document.hidden || !this.#isActive))) return;
    this.#isActive = false;
    const { token } = screen;
    const answer = await server.post(form.dataset.renew, { token });
    if (screen.token !== token) return;
    if (answer?.status === 409) this.#desk.receive(answer);
    if (answer?.status === GONE && !outbox.size) this.#desk.refresh(screen.say("Elsewhere"));
    if (answer?.ok) this.#desk.fetchAhead(); // what was fetched ahead may have been what was taken back
  }

  // A farewell gives the claim back, though another tab may still show it; and on a reload it can reach the server
  // after the new page's request.
  takeBack(isForced = false) {
    setTimeout(() => this.beat(isForced), 1500);
  }
}
