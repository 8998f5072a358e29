import { isComposing } from "../whetstone.js";
import { byId } from "./dom.js";
import { keysOf } from "./keynames.js";

// Press the control whose key was pressed: acts by name are called, all others are clicked.
export function listenToKeys(screen, acts) {
  document.addEventListener("keydown", (event) => {
    if (isComposing(event)) return;
    if (event.key === "Escape" && screen.comparison.contains(event.target) && isTyping(event.target)) {
      event.target.blur();
      return byId("main").focus({ preventScroll: true });
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (isTyping(event.target) || document.querySelector("dialog[open]")) return;
    const keys = keysOf(event);
    if (!event.repeat && screen.groups.press(keys)) return event.preventDefault();
    const controls = [...document.querySelectorAll("[data-key]")];
    const control = keys.map((key) => controls.find(({ dataset }) => dataset.key === key)).find(Boolean);
    if (!control || control.closest(":disabled")) return;
    // Enter presses what has the focus. Elsewhere it presses the one button of the page before judging.
    if (control.id === "start-judging" && event.target.closest("a, button, summary")) return;
    event.preventDefault();
    const { act } = control.dataset;
    if (event.repeat && !["down", "up"].includes(act)) return;
    if (act) acts[act]();
    else control.click();
  });
}

function isTyping(element) {
  return element?.isContentEditable || element?.matches?.("textarea, select, input:not([type=checkbox], [type=radio])");
}
