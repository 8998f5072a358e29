import { carryButton, DifferenceTour, placesOf } from "./differences.js";
import { byId, isStacked } from "./dom.js";

// Both completions: they scroll together, unless the annotator wants them apart. Where differences are marked, they
// scroll so that the same difference is at the same height.
export class Panes {
  #button = byId("together");
  #store;
  #isLinked;
  #tour = new DifferenceTour();
  #known = new WeakMap(); // where each pane is known to be, and its size
  #resizes = new ResizeObserver((entries) => entries.forEach(({ target }) => this.#note(target)));

  constructor(store) {
    this.#store = store;
    this.#isLinked = store.get("whetstone:together") ?? true;
    this.#button.hidden = false;
    this.#button.addEventListener("click", () => this.#toggle());
    document.addEventListener("scroll", () => carryButton(this.#bodies), { passive: true });
  }

  get #bodies() {
    return [...document.querySelectorAll(".panes .pane-body")];
  }

  // Another comparison is on screen, or the same one in another view.
  link() {
    this.#tour.begin();
    this.#resizes.disconnect();
    this.#button.setAttribute("aria-pressed", String(this.#isLinked));
    byId("next-difference")?.toggleAttribute("hidden", !document.querySelector(".panes mark[data-at]"));
    carryButton(this.#bodies);
    this.#bodies.forEach((pane, index, both) => {
      pane.onscroll = () => this.#follow(pane, both[1 - index]);
      this.#note(pane);
      this.#resizes.observe(pane);
    });
  }

  scroll(share) {
    const bodies = this.#bodies;
    const by = share * (bodies[0]?.clientHeight ?? 0);
    const [longer] = this.#bodies.sort((one, other) => other.scrollHeight - one.scrollHeight);
    for (const pane of bodies) this.#note(pane);
    if (this.#isLinked && longer) longer.scrollTop += by;
    else for (const pane of bodies) pane.scrollTop += by;
  }

  // --- Together ---

  #follow(pane, other) {
    const isMoved = this.#isMoved(pane);
    this.#note(pane);
    if (isMoved && this.#isLinked) this.#put(other, counterpart(pane, other));
  }

  #note(pane) {
    this.#known.set(pane, { size: sizeOf(pane), top: pane.scrollTop });
  }

  // Return whether the annotator moved a pane. Where its size changed, the browser did: there is less left to scroll.
  #isMoved(pane) {
    const { size, top } = this.#known.get(pane);
    return size === sizeOf(pane) && top !== pane.scrollTop;
  }

  #put(pane, top) {
    if (Math.abs(pane.scrollTop - top) < 1) return;
    pane.scrollTop = top;
    this.#note(pane);
  }

  #toggle() {
    this.#isLinked = !this.#isLinked;
    this.#store.put("whetstone:together", this.#isLinked);
    this.#button.setAttribute("aria-pressed", String(this.#isLinked));
  }

  // --- From difference to difference ---

  // Scroll to the first difference, where it is below what is in sight.
  seekDifference() {
    const bodies = this.#bodies;
    const first = this.#tour.first(bodies);
    if (!first || isStacked()) return;
    const isBelow = bodies.some((pane, side) => first.tops[side] - pane.scrollTop > pane.clientHeight - 40);
    if (isBelow) this.#visit(first);
  }

  // Go to the next difference. Return its number, how many there are, and which completion is shown if it is only one.
  nextDifference() {
    const step = this.#tour.next(this.#bodies);
    if (!step) return null;
    this.#visit(step);
    const [side, other] = step.sides;
    const letter = other === undefined ? document.querySelectorAll(".panes .letter")[side].textContent : "";
    return { number: step.number, count: step.count, letter };
  }

  #visit(step) {
    const bodies = this.#bodies;
    this.#tour.visit(step, bodies);
    const [side] = step.sides;
    if (isStacked()) {
      window.scrollBy({ top: bodies[side].getBoundingClientRect().top + step.tops[side] - window.innerHeight / 3 });
    } else bodies.forEach((pane, index) => this.#put(pane, step.tops[index] - pane.clientHeight / 3));
  }
}

function sizeOf({ clientWidth, clientHeight, scrollHeight }) {
  return `${clientWidth} ${clientHeight} ${scrollHeight}`;
}

// Return how far the other pane is scrolled when it shows what this one shows. What a third of the way down is level is
// found between the differences before and after it.
function counterpart(pane, other) {
  const [here, there] = [placesOf(pane), placesOf(other)];
  if (!here.size) return pane.scrollTop;
  const line = pane.clientHeight / 3;
  const place = pane.scrollTop + line;
  let [before, after] = [[0, 0], [pane.scrollHeight, other.scrollHeight]];
  for (const [name, top] of here) {
    const pair = [top, there.get(name) ?? top];
    if (top <= place) before = pair;
    else {
      after = pair;
      break;
    }
  }
  const share = after[0] > before[0] ? (place - before[0]) / (after[0] - before[0]) : 0;
  return before[1] + share * (after[1] - before[1]) - line;
}
