// Choosing a key by pressing it. Without this script the fields take the key's name.

import { isComposing } from "./whetstone.js";

for (const field of document.querySelectorAll("[data-key-field]")) {
  field.addEventListener("keydown", (event) => {
    if (isComposing(event)) return; // it names no key
    if (event.ctrlKey || event.metaKey || event.altKey || ["Tab", "Shift", "Escape"].includes(event.key)) return;
    if (["Backspace", "Delete"].includes(event.key)) field.value = "";
    else field.value = event.key.length === 1 ? event.key.toLowerCase().trim() : event.key;
    event.preventDefault();
  });
}
