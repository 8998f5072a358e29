import { byId } from "./dom.js";

// The criteria and the reasons, which the same key enters one after the other. In a criterion the keys of verdicts answer
// it, in the reasons the digits pick them; the last one leads back to the verdict.
export class NoteGroups {
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
    const verdict = keys.map((key) => verdicts.find(({ dataset }) => dataset.key === key)).find(Boolean);
    return verdict && group.querySelector(`input[value="${verdict.value}"]`);
  }

  #leave() {
    this.#active?.removeAttribute("data-active");
  }
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
