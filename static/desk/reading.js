// How a comparison is read: for how long, how its completions scroll, and how much of its prompt is in sight.

const byId = (id) => document.getElementById(id);
const PROMPT_SHARE = 32; // percent of the comparison's height, until another one is chosen
const DAY = 24 * 3600 * 1000; // ms
const IDLE = 60_000; // ms without input that still count as reading

// How long a comparison has been read, in ms: while it is visible, and there was input within the last minute.
export class Clock {
  #now;
  #elapsed = 0;
  #since; // when reading began or went on; null while the page is hidden
  #lastInput;

  constructor(now = () => performance.now(), isHidden = false) {
    this.#now = now;
    this.#lastInput = now();
    this.#since = isHidden ? null : now();
  }

  get time() {
    if (this.#since === null) return this.#elapsed;
    return this.#elapsed + Math.max(0, Math.min(this.#now(), this.#lastInput + IDLE) - this.#since);
  }

  // Note that the annotator is there. The time since they went idle does not count.
  touch() {
    if (this.#since !== null) {
      this.#elapsed = this.time;
      this.#since = this.#now();
    }
    this.#lastInput = this.#now();
  }

  // Begin again, at the time of earlier looks.
  restart(elapsed = 0) {
    this.touch();
    this.#elapsed = elapsed;
  }

  pause() {
    this.#elapsed = this.time;
    this.#since = null;
  }

  resume() {
    this.touch();
    this.#since ??= this.#now();
  }
}

// How long comparisons were read before a verdict, by token: a reload or an undo of another one interrupts the look.
export class Readings {
  #store;
  #prefix = "whetstone:read:";

  constructor(store) {
    this.#store = store;
  }

  get(token) {
    return this.#store.get(this.#prefix + token)?.time ?? 0;
  }

  put(token, time, now = Date.now()) {
    if (token) this.#store.put(this.#prefix + token, { at: now, time });
  }

  drop(token) {
    this.#store.drop(this.#prefix + token);
  }

  dropOld(now = Date.now()) {
    for (const key of this.#store.keys(this.#prefix)) {
      if (now - this.#store.get(key)?.at > DAY) this.#store.drop(key);
    }
  }
}

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

// The prompt above the completions: it opens where the user spoke last, at a height that the annotator chose, and opens
// wide on demand.
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
