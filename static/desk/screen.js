// What is on screen: the comparison, the one fetched ahead, the notes, the counts, and the keys that reach them.

import { Clock, Readings } from "./outbox.js";

const byId = (id) => document.getElementById(id);
const PROMPT_SHARE = 32; // percent of the comparison's height, until another one is chosen
const isStacked = () => window.matchMedia("(max-width: 60rem)").matches;

// The comparison that is judged, its form, and the one after it. `settled` is called when another one is on screen,
// before its earlier verdict is marked.
export class Screen {
  settled = () => {};
  groups = new NoteGroups();
  plainView = "rendered"; // what leaving the differences leads back to
  #form;
  #clock = new Clock(undefined, document.hidden);
  #readings;
  #read = ""; // the token of what is read
  #before = 0; // ms of earlier looks at it
  #panes;
  #prompt;

  constructor(form, store) {
    this.#form = form;
    this.#panes = new Panes(store);
    this.#readings = new Readings(store);
    this.#readings.dropOld();
    this.#prompt = new PromptBox(form, store);
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.#clock.pause();
      else this.#clock.resume();
      this.#keepReading();
    });
    window.addEventListener("pagehide", () => this.#keepReading());
    for (const name of ["pointermove", "pointerdown", "keydown", "wheel", "scroll"]) {
      document.addEventListener(name, () => this.#clock.touch(), { passive: true, capture: true });
    }
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

  // The view that the annotator chose. Texts that it does not suit are shown in another one.
  get view() {
    return this.#form.dataset.view;
  }

  set view(view) {
    if (this.view !== "differences") this.plainView = this.view;
    this.#form.dataset.view = view;
  }

  // Whether the texts on screen were fetched in that view.
  get isInView() {
    return !this.token || this.comparison.dataset.chosen === this.view;
  }

  get textsUrl() {
    return this.comparison.querySelector(".segments").dataset.url;
  }

  // How long this look has lasted, in ms.
  get shownFor() {
    return this.#clock.time - this.#before;
  }

  // Forget the reading time of a comparison: its verdict was taken, and holds it.
  forget(token) {
    this.#readings.drop(token);
    if (token === this.#read) this.#read = "";
  }

  #keepReading() {
    this.#readings.put(this.#read, this.#clock.time);
  }

  #startReading() {
    this.#keepReading();
    this.#read = this.token;
    this.#before = this.#readings.get(this.token);
    this.#clock.restart(this.#before);
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
    if (!isSame) this.#startReading();
    this.comparison.removeAttribute("aria-busy");
    byId("verdicts").disabled = !this.token;
    byId("left-words")?.toggleAttribute("hidden", !this.token);
    this.settled();
    for (const button of document.querySelectorAll("#strip .verdict")) {
      button.classList.toggle("was", button.value === this.comparison.dataset.was);
    }
    this.#panes.link();
    this.#prompt.settle({ isSame });
  }

  scroll(screens) {
    if (isStacked()) window.scrollBy({ top: screens * window.innerHeight * 0.4 });
    else this.#panes.scroll(screens * 0.6);
  }

  // --- The comparison after this one ---

  get aheadToken() {
    return byId("ahead").content.firstElementChild?.dataset.token ?? "";
  }

  get hasAhead() {
    return byId("ahead").innerHTML.trim() !== "";
  }

  get ahead() {
    return byId("ahead").innerHTML;
  }

  set ahead(html) {
    byId("ahead").innerHTML = html;
  }

  // Show the comparison that was fetched ahead, if there is one, and return whether there was.
  showAhead() {
    if (!this.hasAhead) return false;
    const html = byId("ahead").innerHTML.trim();
    this.ahead = "";
    this.show(html);
    return true;
  }

  // --- What is entered ---

  // Return what the form holds, with the verdict of this button.
  verdict(button) {
    const body = this.#entered(button);
    body.set("seconds", (this.#clock.time / 1000).toFixed(2));
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

// The criteria and the reasons, which the same key enters one after the other. In a criterion the keys of verdicts answer
// it, in the reasons the digits pick them; the last one leads back to the verdict.
class NoteGroups {
  constructor() {
    document.addEventListener("pointerdown", () => this.#leave());
  }

  get #active() {
    return document.querySelector(".notes [data-active]");
  }

  next() {
    const groups = [...document.querySelectorAll(".notes :is(.criterion, .chips)")];
    const group = groups[groups.indexOf(this.#active) + 1];
    this.#leave();
    if (!group) return byId("main").focus({ preventScroll: true });
    group.dataset.active = "";
    (group.querySelector("input:checked") ?? group.querySelector("input")).focus();
  }

  // Take a key, and return whether it was meant for the group that is active.
  press(keys) {
    const group = this.#active;
    if (!group) return false;
    if (keys.includes("Escape")) {
      this.#leave();
      byId("main").focus({ preventScroll: true });
      return true;
    }
    const choice = group.matches(".chips") ? this.#reasonOf(group, keys) : this.#stepOf(group, keys);
    choice?.click();
    if (choice?.type === "radio") this.next();
    return Boolean(choice);
  }

  #reasonOf(group, keys) {
    const digit = keys.find((key) => /^\d$/.test(key));
    return digit && [...group.querySelectorAll("input")].slice(0, 10)[(Number(digit) + 9) % 10];
  }

  #stepOf(group, keys) {
    const verdicts = [...document.querySelectorAll("#strip .verdict")];
    const verdict = verdicts.find(({ dataset }) => dataset.key && keys.includes(dataset.key));
    return verdict && group.querySelector(`input[value="${verdict.value}"]`);
  }

  #leave() {
    this.#active?.removeAttribute("data-active");
  }
}

// Both completions: they scroll together, unless the annotator wants them apart.
class Panes {
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

// The prompt above the completions: it opens where the user spoke last, at a height that the annotator chose, and opens
// wide on demand.
class PromptBox {
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
    window.addEventListener("resize", () => this.#look());
  }

  // Another comparison is on screen, or the same one in another view.
  settle({ isSame }) {
    if (!byId("prompt-body")) return;
    byId("divider").hidden = false;
    this.#setHeight(this.#store.get("whetstone:prompt"));
    this.#open(isSame && this.#isWhole);
  }

  #open(isWhole) {
    const body = byId("prompt-body");
    const earlier = body.querySelector(".earlier");
    this.#isWhole = isWhole;
    this.#form.toggleAttribute("data-whole-prompt", isWhole);
    byId("whole-prompt").setAttribute("aria-expanded", String(isWhole));
    if (earlier) earlier.open = isWhole;
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
    byId("divider")?.setAttribute("aria-valuenow", String(percent || PROMPT_SHARE));
    this.#look();
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

// The day's verdicts, and the comparisons left for this annotator: as the server counted them, and what waits here.
export class Tally {
  today = Number(byId("tally").textContent);
  left = Number(byId("left")?.textContent);

  show(unsent) {
    byId("tally").textContent = this.today + unsent.filter(({ body }) => isVerdict(body)).length;
    if (byId("left")) byId("left").textContent = Math.max(0, this.left - unsent.length);
  }

  count({ body }) {
    if (isVerdict(body)) this.today += 1;
    this.left -= 1;
  }
}

const isVerdict = (body) => !["skip", "not_mine"].includes(body.get("verdict"));

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

// Press the control whose key was pressed: acts by name are called, all others are clicked.
export function listenToKeys(screen, acts) {
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && screen.comparison.contains(event.target) && isTyping(event.target)) {
      event.target.blur();
      return byId("main").focus({ preventScroll: true });
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return;
    if (isTyping(event.target) || document.querySelector("dialog[open]")) return;
    const keys = keysOf(event);
    if (!event.repeat && screen.groups.press(keys)) return event.preventDefault();
    const controls = [...document.querySelectorAll("[data-key]")];
    const control = keys.map((key) => controls.find(({ dataset }) => dataset.key === key)).find(Boolean);
    if (!control || control.closest(":disabled")) return;
    event.preventDefault();
    const { act } = control.dataset;
    if (event.repeat && !["down", "up"].includes(act)) return;
    if (act) acts[act]();
    else control.click();
  });
}

// Return the names of the pressed key, the likeliest first. Where digits need Shift, the key still counts as a digit;
// an arrow of the number pad does not.
export function keysOf({ key, code }) {
  if (key.length > 1) return [key];
  const digit = code.match(/^Digit(\d)$/)?.[1];
  return digit ? [key.toLowerCase(), digit] : [key.toLowerCase()];
}

function isTyping(element) {
  return element?.isContentEditable || element?.matches?.("textarea, select, input:not([type=checkbox], [type=radio])");
}

// Let a chosen radio be given back by choosing it again: everything beside the verdict is optional.
export function clearRadios(form, cleared) {
  form.addEventListener("pointerdown", (event) => {
    const radio = event.target.closest?.(".criterion label")?.querySelector("input");
    if (radio) radio.dataset.clear = radio.checked ? "yes" : "";
  });
  form.addEventListener("click", (event) => {
    if (!event.target.matches?.(".criterion input") || !event.target.dataset.clear) return;
    event.target.checked = false;
    event.target.dataset.clear = "";
    cleared();
  });
}
