import { byId, isStacked } from "./dom.js";

const NEAR = 72; // pixels: differences that are nearer than that to the one before are looked at together

// Both completions: they scroll together, unless the annotator wants them apart. Where differences are marked, they
// scroll so that the same difference is at the same height.
export class Panes {
  #button = byId("together");
  #store;
  #isLinked;
  #moved = new Map(); // where a pane was put, so that its event is not taken for the annotator's
  #visited = -1;

  constructor(store) {
    this.#store = store;
    this.#isLinked = store.get("whetstone:together") ?? true;
    this.#button.hidden = false;
    this.#button.addEventListener("click", () => this.#toggle());
  }

  get #bodies() {
    return [...document.querySelectorAll(".panes .pane-body")];
  }

  // Another comparison is on screen, or the same one in another view.
  link() {
    this.#visited = -1;
    this.#moved.clear();
    this.#button.setAttribute("aria-pressed", String(this.#isLinked));
    const next = byId("next-difference");
    next?.toggleAttribute("hidden", !document.querySelector(".panes mark[data-at]"));
    if (next && isStacked()) document.querySelector(".panes .pane-header").append(next); // which stays in sight
    this.#bodies.forEach((pane, index, both) => {
      pane.onscroll = () => this.#follow(pane, both[1 - index]);
    });
  }

  // Scroll to the first difference, where it is below what is in sight.
  seekDifference() {
    const [first] = this.#stops();
    if (!first || isStacked()) return;
    const isBelow = this.#bodies.some((pane, index) => first.tops[index] - pane.scrollTop > pane.clientHeight - 40);
    if (isBelow) this.#visit(first, 0);
  }

  // Go to the difference after the one that was gone to last, and after the last one to the first.
  nextDifference() {
    const stops = this.#stops();
    if (!stops.length) return;
    const next = (this.#visited + 1) % stops.length;
    this.#visit(stops[next], next);
  }

  scroll(share) {
    const bodies = this.#bodies;
    const by = share * (bodies[0]?.clientHeight ?? 0);
    const [longer] = this.#bodies.sort((one, other) => other.scrollHeight - one.scrollHeight);
    if (this.#isLinked && longer) longer.scrollTop += by;
    else for (const pane of bodies) pane.scrollTop += by;
  }

  // --- Together ---

  #follow(pane, other) {
    const isOurs = this.#moved.get(pane) === pane.scrollTop;
    this.#moved.delete(pane);
    if (!isOurs && this.#isLinked) this.#put(other, counterpart(pane, other));
  }

  #put(pane, top) {
    if (Math.abs(pane.scrollTop - top) < 1) return;
    const before = pane.scrollTop;
    pane.scrollTop = top;
    if (pane.scrollTop !== before) this.#moved.set(pane, pane.scrollTop);
  }

  #toggle() {
    this.#isLinked = !this.#isLinked;
    this.#store.put("whetstone:together", this.#isLinked);
    this.#button.setAttribute("aria-pressed", String(this.#isLinked));
  }

  // --- From difference to difference ---

  // Return the differences to stop at, each with its number and its place in each pane.
  #stops() {
    const places = this.#bodies.map(placesOf);
    const stops = [];
    for (const at of places[0]?.keys() ?? []) {
      const tops = places.map((tops) => tops.get(at) ?? 0);
      const last = stops.at(-1);
      if (!last || tops.some((top, index) => top - last.tops[index] > NEAR)) stops.push({ at, tops });
    }
    return stops;
  }

  #visit({ at, tops }, index) {
    const bodies = this.#bodies;
    this.#visited = index;
    for (const mark of document.querySelectorAll(".panes mark.here")) mark.classList.remove("here");
    const marks = bodies.map((pane) => [...pane.querySelectorAll(`mark[data-at="${at}"]`)]);
    for (const mark of marks.flat()) mark.classList.add("here");
    if (isStacked()) marks[0][0]?.scrollIntoView({ block: "center" });
    else bodies.forEach((pane, side) => this.#put(pane, tops[side] - pane.clientHeight / 3));
  }
}

const found = new WeakMap(); // the places of each pane, and the measures of which they hold

// Return how far down each difference of a pane is, by its number.
function placesOf(pane) {
  const measures = `${pane.scrollHeight} ${pane.clientWidth}`;
  if (found.get(pane)?.measures !== measures) found.set(pane, { measures, places: findPlaces(pane) });
  return found.get(pane).places;
}

function findPlaces(pane) {
  const start = pane.getBoundingClientRect().top - pane.scrollTop;
  const places = new Map();
  for (const mark of pane.querySelectorAll("mark[data-at]")) {
    if (!places.has(mark.dataset.at)) places.set(mark.dataset.at, mark.getBoundingClientRect().top - start);
  }
  return places;
}

// Return how far the other pane is scrolled when it shows what this one shows. What a third of the way down is level is
// found between the differences before and after it.
function counterpart(pane, other) {
  const [here, there] = [placesOf(pane), placesOf(other)];
  if (!here.size) return pane.scrollTop;
  const line = pane.clientHeight / 3;
  const place = pane.scrollTop + line;
  let [before, after] = [[0, 0], [pane.scrollHeight, other.scrollHeight]];
  for (const [at, top] of here) {
    const pair = [top, there.get(at) ?? top];
    if (top <= place) before = pair;
    else {
      after = pair;
      break;
    }
  }
  const share = after[0] > before[0] ? (place - before[0]) / (after[0] - before[0]) : 0;
  return before[1] + share * (after[1] - before[1]) - line;
}
