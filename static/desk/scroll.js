import { byId } from "./dom.js";

// Both completions: they scroll together, unless the annotator wants them apart.
export class Panes {
  #button = byId("together");
  #store;
  #isLinked;

  constructor(store) {
    this.#store = store;
    this.#isLinked = store.get("whetstone:together") ?? true;
    this.#button.hidden = false;
    this.#button.addEventListener("click", () => this.#toggle());
  }

  get #bodies() {
    return [...document.querySelectorAll(".panes .pane-body")];
  }

  link() {
    this.#button.setAttribute("aria-pressed", String(this.#isLinked));
    this.#bodies.forEach((pane, index, both) => {
      pane.onscroll = () => this.#follow(pane, both[1 - index]);
    });
  }

  scroll(share) {
    for (const pane of this.#bodies) pane.scrollTop += share * pane.clientHeight;
  }

  #follow(pane, other) {
    const leads = this.#isLinked && pane.matches(":hover, :focus-within");
    if (leads && other.scrollTop !== pane.scrollTop) other.scrollTop = pane.scrollTop;
  }

  #toggle() {
    this.#isLinked = !this.#isLinked;
    this.#store.put("whetstone:together", this.#isLinked);
    this.link();
  }
}
