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

  // Scroll to the first difference, where it is below what is in sight.
  seekDifference() {
    for (const pane of this.#bodies) {
      const mark = pane.querySelector("mark");
      if (!mark) continue;
      const below = mark.getBoundingClientRect().top - pane.getBoundingClientRect().top;
      if (below > pane.clientHeight - 40) pane.scrollTop += below - pane.clientHeight / 3;
    }
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
