// Reading times: how long each comparison has been looked at.

const DAY = 24 * 3600 * 1000; // ms
const IDLE = 60_000; // ms without input that still count as reading

// The time that a comparison has been read, in ms: while it is visible, and there was input within the last minute.
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

// Reading times before a verdict, by token: a reload or an undo of another one interrupts the look.
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

// The reading time of the comparison on screen, through hidden pages, reloads, and looks at others in between.
export class ReadingTime {
  #clock = new Clock(undefined, document.hidden);
  #readings;
  #token = ""; // of what is read
  #before = 0; // ms of earlier looks at it

  constructor(store) {
    this.#readings = new Readings(store);
    this.#readings.dropOld();
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.#clock.pause();
      else this.#clock.resume();
      this.#keep();
    });
    window.addEventListener("pagehide", () => this.#keep());
    for (const name of ["pointermove", "pointerdown", "keydown", "wheel", "scroll"]) {
      document.addEventListener(name, () => this.#clock.touch(), { passive: true, capture: true });
    }
  }

  // All looks at it, in ms.
  get total() {
    return this.#clock.time;
  }

  // This look, in ms.
  get look() {
    return this.#clock.time - this.#before;
  }

  // Another comparison is on screen.
  start(token) {
    this.#keep();
    this.#token = token;
    this.#before = this.#readings.get(token);
    this.#clock.restart(this.#before);
  }

  // Forget a comparison's time: its verdict was taken, and holds it.
  forget(token) {
    this.#readings.drop(token);
    if (token === this.#token) this.#token = "";
  }

  #keep() {
    this.#readings.put(this.#token, this.#clock.time);
  }
}
