import { clearSuccesses } from "../whetstone.js";
import { ReadingTime } from "./clock.js";
import { nameGaps } from "./differences.js";
import { byId, isStacked } from "./dom.js";
import { NoteGroups } from "./notes.js";
import { PromptBox } from "./prompt.js";
import { Panes } from "./scroll.js";

// The comparison on screen and its form. `settled` is called when another one is on screen, before its
// earlier verdict is marked.
export class Screen {
  settled = () => {};
  groups = new NoteGroups();
  plainView = "rendered"; // what leaving the differences leads back to
  reading;
  #form;
  #panes;
  #prompt;

  constructor(form, store) {
    this.#form = form;
    this.#panes = new Panes(store);
    this.reading = new ReadingTime(store);
    this.#prompt = new PromptBox(form, store);
    form.addEventListener("animationend", (event) => event.target.classList.remove("given"));
  }

  // The page's own words, translated.
  say(name) {
    return this.#form.dataset[`say${name}`];
  }

  announce(text) {
    if (byId("announcer").textContent !== text) byId("announcer").textContent = text;
  }

  get comparison() {
    return byId("comparison");
  }

  get token() {
    return this.comparison.dataset.token ?? "";
  }

  // The claim, which stays the same when an undo draws another token.
  get claim() {
    return this.comparison.dataset.claim ?? "";
  }

  // The view that the annotator chose. Texts that it does not suit are shown in another one.
  get view() {
    return this.#form.dataset.view;
  }

  set view(view) {
    if (this.view !== "differences") this.plainView = this.view;
    this.#form.dataset.view = view;
  }

  // True if the texts on screen were fetched in that view.
  get isInView() {
    return !this.token || this.comparison.dataset.chosen === this.view;
  }

  get textsUrl() {
    return this.comparison.querySelector(".segments").dataset.url;
  }

  get isBusy() {
    return this.comparison.hasAttribute("aria-busy");
  }

  // The comparison on screen is judged, and the next one is not here yet.
  wait() {
    this.comparison.setAttribute("aria-busy", "true");
  }

  // Put a comparison on screen. Focus stays on the control, or on the part of the page that it was on.
  show(html) {
    clearSuccesses(); // they speak of the comparison that leaves, as that it was flagged
    this.#swap(html);
    if (isStacked()) window.scrollTo(0, 0); // it is read from the top
    this.settle();
    const heading = this.comparison.querySelector("h2")?.textContent; // of the reason why there is no comparison
    byId("announcer").textContent = this.token ? (byId("undone")?.textContent ?? this.say("Next")) : heading;
  }

  // Put the same comparison on screen in another view. What is entered stays: the draft that came along may be older.
  redraw(html) {
    const { notes } = this;
    this.#swap(html);
    this.notes = notes;
    this.settle({ isSame: true });
  }

  #swap(html) {
    const focused = document.activeElement?.id;
    htmx.swap({ text: html, target: this.comparison, swap: "outerHTML", sourceElement: this.#form });
    if (focused && document.activeElement?.id !== focused) byId(focused)?.focus({ preventScroll: true });
  }

  // Bring clock, controls and draft in line with the comparison on screen. If only its texts changed, time goes on.
  settle({ isSame = false } = {}) {
    if (!isSame) this.reading.start(this.token);
    this.comparison.removeAttribute("aria-busy");
    byId("verdicts").disabled = !this.token;
    byId("left-words")?.toggleAttribute("hidden", !this.token);
    this.settled();
    for (const button of document.querySelectorAll("#strip .verdict")) {
      button.classList.toggle("was", button.value === this.comparison.dataset.was);
    }
    this.#prompt.settle({ isSame });
    this.#panes.link();
    nameGaps(this.say("Gap"));
    if (this.comparison.dataset.view === "differences") this.#panes.seekDifference();
  }

  scroll(screens) {
    if (isStacked()) window.scrollBy({ top: screens * window.innerHeight * 0.4 });
    else this.#panes.scroll(screens * 0.6);
  }

  nextDifference() {
    const place = this.#panes.nextDifference();
    if (!place) return;
    const said = this.say("Difference").replace("{number}", place.number).replace("{count}", place.count);
    this.announce(place.letter ? `${place.letter}: ${said}` : said);
  }

  // --- What is entered ---

  // Return what the form holds, with the verdict of this button.
  verdict(button) {
    const body = this.#entered(button);
    body.set("seconds", (this.reading.total / 1000).toFixed(2));
    return body;
  }

  // Return what the form holds, with the verdict that an undo brought back.
  get notes() {
    const body = this.#entered();
    body.set("verdict", this.comparison.dataset.was ?? "");
    return body;
  }

  set notes(body) {
    for (const field of this.comparison.querySelectorAll(".notes input, .notes textarea")) {
      if (field.type === "textarea") field.value = body.get(field.name) ?? "";
      else field.checked = body.getAll(field.name).includes(field.value);
    }
    this.comparison.dataset.was = body.get("verdict") ?? "";
  }

  focusNotes() {
    const notes = this.comparison.querySelector(".notes");
    (notes?.querySelector("textarea") ?? notes?.querySelector("input"))?.focus();
  }

  #entered(button) {
    const body = new URLSearchParams(new FormData(this.#form, button));
    for (const name of ["csrfmiddlewaretoken", "flag_note"]) body.delete(name);
    return body;
  }
}
