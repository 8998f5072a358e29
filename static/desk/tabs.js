// The other tabs of this annotator in this browser.
export class Tabs {
  #desk;
  #channel;

  constructor(desk, name) {
    this.#desk = desk;
    this.#channel = "BroadcastChannel" in window ? new BroadcastChannel(name) : null;
    this.#channel?.addEventListener("message", ({ data }) => {
      if (data.closed) desk.heartbeat.takeBack(true);
      else this.#hear(data);
    });
    window.addEventListener("storage", ({ key }) => {
      desk.drafts.takeOver(key);
      desk.status();
      desk.showTally();
      for (const sender of [desk.sender, desk.flag.sender]) {
        if (!sender.isSending && sender.size) sender.flushIn(5000); // the tab that it was given in may be gone by then
      }
    });
  }

  // Tell them that a verdict was given, that a view was chosen, or that a verdict was undone or redone.
  tell({ given, view }) {
    const { today, left } = this.#desk.tally;
    this.#channel?.postMessage({ given, view, today, left });
  }

  close() {
    this.#channel?.postMessage({ closed: true });
  }

  #hear({ given, view, today, left }) {
    const { ahead, screen, tally } = this.#desk;
    if (view) return view !== screen.view && this.#desk.turn(view, { isTold: true });
    tally.today = today;
    if (!Number.isNaN(left)) tally.left = left;
    this.#desk.showTally();
    this.#desk.enable("undo", true);
    this.#desk.enable("redo", !given);
    if (!given) this.#desk.refresh();
    else if (given === screen.token) this.#desk.refresh(screen.say("Elsewhere"));
    else if (given === ahead.token) ahead.drop();
  }
}
