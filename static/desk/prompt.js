import { byId, isStacked } from "./dom.js";

const PROMPT_SHARE = 32; // percent of the comparison's height, until another one is chosen

// The prompt above the completions: it opens where the user spoke last, at a height that the annotator chose, and opens
// wide on demand. Until a height is chosen, it also takes the room that both completions leave.
export class PromptBox {
  #form;
  #store;
  #isWhole = false;

  constructor(form, store) {
    this.#form = form;
    this.#store = store;
    this.#setHeight(store.get("whetstone:prompt"));
    form.addEventListener("click", ({ target }) => target.closest?.("#whole-prompt:not([hidden])") && this.#open(!this.#isWhole));
    form.addEventListener("dblclick", ({ target }) => target.id === "divider" && this.#keepHeight(null));
    form.addEventListener("pointerdown", (event) => event.target.id === "divider" && this.#drag(event));
    form.addEventListener("keydown", (event) => event.target.id === "divider" && this.#move(event));
    // Neither bubbles.
    for (const name of ["scroll", "toggle"]) form.addEventListener(name, () => this.#look(), { capture: true, passive: true });
    window.addEventListener("resize", () => this.#setHeight(this.#store.get("whetstone:prompt")));
  }

  // Another comparison is on screen, or the same one in another view.
  settle({ isSame }) {
    if (!byId("prompt-body")) return;
    byId("divider").hidden = false;
    this.#open(isSame && this.#isWhole);
  }

  #open(isWhole) {
    const body = byId("prompt-body");
    const earlier = body.querySelector(".earlier");
    this.#isWhole = isWhole;
    this.#form.toggleAttribute("data-whole-prompt", isWhole);
    byId("whole-prompt").setAttribute("aria-expanded", String(isWhole));
    if (earlier) earlier.open = isWhole;
    this.#setHeight(this.#store.get("whetstone:prompt")); // which is not the same for a whole prompt
    const latest = body.querySelector(".latest");
    body.scrollTop += isWhole ? -body.scrollTop : latest.getBoundingClientRect().top - body.getBoundingClientRect().top;
    this.#look();
  }

  // Show whether there is more of the prompt than is in sight.
  #look() {
    const body = byId("prompt-body");
    if (!body) return;
    const { scrollTop, scrollHeight, clientHeight } = body;
    body.toggleAttribute("data-more", scrollTop + clientHeight < scrollHeight - 2);
    const hasMore = scrollHeight > clientHeight + 2 || Boolean(body.querySelector(".earlier:not([open])"));
    byId("whole-prompt").hidden = !hasMore && !this.#isWhole;
  }

  // --- Its height, as a share of the comparison's ---

  #setHeight(percent) {
    if (percent) this.#form.style.setProperty("--prompt-share", `${percent}%`);
    else this.#form.style.removeProperty("--prompt-share");
    const free = percent || isStacked() ? 0 : this.#findFree();
    if (free) this.#form.style.setProperty("--prompt-share", `${free}%`);
    byId("divider")?.setAttribute("aria-valuenow", String(percent || free || PROMPT_SHARE));
    this.#look();
  }

  // Return the share that a prompt has with the room that both completions leave; 0 if it needs none.
  #findFree() {
    const body = byId("prompt-body");
    const lacking = body ? body.scrollHeight - body.clientHeight : 0;
    if (lacking <= 0 || this.#isWhole) return 0;
    const left = Math.min(...[...document.querySelectorAll(".panes .pane-body")].map(freeOf));
    const section = body.parentElement.offsetHeight;
    return left > 0 ? Math.floor((100 * (section + Math.min(lacking, left))) / byId("comparison").clientHeight) : 0;
  }

  #keepHeight(percent) {
    const kept = percent && Math.round(Math.min(Math.max(percent, 10), 80));
    this.#store.put("whetstone:prompt", kept);
    this.#setHeight(kept);
  }

  #drag(event) {
    const divider = event.target;
    event.preventDefault();
    divider.setPointerCapture(event.pointerId);
    divider.onpointermove = ({ clientY }) => {
      const { top, height } = byId("comparison").getBoundingClientRect();
      this.#keepHeight((100 * (clientY - top)) / height);
    };
    divider.onpointerup = () => (divider.onpointermove = null);
  }

  #move(event) {
    const now = Number(event.target.getAttribute("aria-valuenow"));
    const to = { ArrowUp: now - 5, ArrowDown: now + 5, Home: 10, End: 80, Enter: null }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.#keepHeight(to);
  }
}

// Return how much of a pane is below what it holds.
function freeOf(pane) {
  const held = document.createRange();
  held.selectNodeContents(pane);
  const { bottom } = held.getBoundingClientRect();
  return pane.getBoundingClientRect().bottom - bottom - parseFloat(getComputedStyle(pane).paddingBottom);
}
