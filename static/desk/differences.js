import { byId, isStacked } from "./dom.js";

const NEAR = 72; // pixels: differences that are nearer than that to the first of a stop are looked at with it

// The way from difference to difference. A stop is one difference, or several that are close in both completions. Where
// the completions are below each other, each stop is shown first in A and then in B, unless one of them lacks it.
export class DifferenceTour {
  #visited = null;

  begin() {
    this.#visited = null;
  }

  // Return the first stop.
  first(panes) {
    return findSteps(panes)[0];
  }

  // Return the stop after the one visited last if that is still in sight. Otherwise return the first one that is in sight
  // or below. The first stop follows the last one.
  next(panes) {
    const steps = findSteps(panes);
    const visited = steps.findIndex((step) => this.#isVisited(step));
    const isInSight = visited >= 0 && steps[visited].sides.every((side) => sees(panes[side], steps[visited].tops[side]));
    const index = isInSight ? visited + 1 : findFromSight(steps, panes);
    return steps[index] ?? steps[0];
  }

  // Outline all marks of a stop.
  visit(step, panes) {
    this.#visited = step;
    for (const mark of document.querySelectorAll(".panes mark.here")) mark.classList.remove("here");
    const selector = step.names.map((name) => `mark[data-at="${name}"]`).join();
    for (const pane of panes) for (const mark of pane.querySelectorAll(selector)) mark.classList.add("here");
  }

  #isVisited({ names, sides }) {
    return Boolean(this.#visited) && names.includes(this.#visited.names[0]) && sides[0] === this.#visited.sides[0];
  }
}

// Return the stops in order, each with its number, its differences' names, its place in each pane, and the sides shown.
function findSteps(panes) {
  const stops = findStops(panes);
  const steps = stops.map((stop, index) => ({ ...stop, number: index + 1, count: stops.length, sides: [0, 1] }));
  if (!isStacked()) return steps;
  const held = panes.map((pane) => new Set([...pane.querySelectorAll("mark[data-at]:not(.gap)")].map(nameOf)));
  return steps.flatMap((step) => {
    const sides = [0, 1].filter((side) => step.names.some((name) => held[side].has(name)));
    return sides.map((side) => ({ ...step, sides: [side] }));
  });
}

function findStops(panes) {
  const places = panes.map(placesOf);
  const stops = [];
  for (const name of places[0]?.keys() ?? []) {
    const tops = places.map((tops) => tops.get(name) ?? 0);
    const last = stops.at(-1);
    if (last && tops.every((top, side) => top - last.tops[side] <= NEAR)) last.names.push(name);
    else stops.push({ names: [name], tops });
  }
  return stops;
}

function findFromSight(steps, panes) {
  const first = sideInSight(panes);
  const shown = isStacked() ? [first] : [0, 1];
  const isAhead = ({ tops }) => shown.every((side) => tops[side] >= topInSight(panes[side]));
  return steps.findIndex((step) => isAhead(step) && step.sides[0] >= first);
}

// Return which completion is in sight where they are below each other: 0 for A, 1 for B.
export function sideInSight(panes) {
  const isReached = (pane) => pane?.getBoundingClientRect().top < window.innerHeight / 2;
  return isStacked() && isReached(panes[1]) ? 1 : 0;
}

// Return how much of a pane is above what is in sight.
function topInSight(pane) {
  return isStacked() ? -pane.getBoundingClientRect().top : pane.scrollTop;
}

function sees(pane, place) {
  const top = topInSight(pane);
  return top <= place && place < top + (isStacked() ? window.innerHeight : pane.clientHeight);
}

// Name the marks where the other completion holds more: they have no text of their own.
export function nameGaps(name) {
  for (const gap of document.querySelectorAll(".panes mark.gap")) {
    gap.setAttribute("role", "img");
    gap.setAttribute("aria-label", name);
  }
}

// Keep the button that leads to the next difference in sight.
export function carryButton(panes) {
  const button = byId("next-difference");
  const header = isStacked() && panes[sideInSight(panes)]?.parentElement.querySelector(".pane-header"); // it is sticky
  if (!button || !header || header.contains(button)) return;
  const isFocused = document.activeElement === button;
  header.append(button);
  if (isFocused) button.focus({ preventScroll: true });
}

const found = new WeakMap(); // the places of each pane, and the measures of which they hold

// Return how far down each difference of a pane is, by its name.
export function placesOf(pane) {
  const measures = `${pane.scrollHeight} ${pane.clientWidth}`;
  if (found.get(pane)?.measures !== measures) found.set(pane, { measures, places: findPlaces(pane) });
  return found.get(pane).places;
}

function findPlaces(pane) {
  const start = pane.getBoundingClientRect().top - pane.scrollTop;
  const places = new Map();
  for (const mark of pane.querySelectorAll("mark[data-at]")) {
    if (!places.has(nameOf(mark))) places.set(nameOf(mark), mark.getBoundingClientRect().top - start);
  }
  return places;
}

function nameOf(mark) {
  return mark.dataset.at;
}
