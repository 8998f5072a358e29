// A form that is not left by mistake: <form data-unsaved data-person="…">. The browser asks before a page with changes
// in it goes; data-unsaved="changed" says that what the form came with is not saved either. What is sent stays in this
// tab until the server took it, or until such a page is opened next. A sign-in that ended meanwhile leads back to the
// form with #unsent, which then holds it again.

import { unsent } from "./unsent.js";
import { notify } from "./whetstone.js";

const isUnsent = location.hash === "#unsent";

for (const [index, form] of document.querySelectorAll("[data-unsaved]").entries()) {
  const place = [form.dataset.person, index, location.pathname];
  const entered = () => new URLSearchParams(new FormData(form)).toString();
  const saved = form.dataset.unsaved === "changed" ? "" : entered();
  let sent = false;
  form.addEventListener("submit", ({ submitter }) => {
    if (submitter?.hasAttribute("hx-post")) return; // it shows something beside the form
    sent = true;
    unsent.keep(...place, entered());
  });
  window.addEventListener("pageshow", () => { sent = false; }); // back again, from the browser's memory
  window.addEventListener("beforeunload", (event) => {
    if (!sent && entered() !== saved) event.preventDefault();
  });
  const sentBefore = isUnsent ? unsent.find(...place) : null;
  if (sentBefore !== null) {
    enter(form, new URLSearchParams(sentBefore));
    notify(document.getElementById("notices").dataset.unsent, "warning");
  }
}
unsent.forget();
if (isUnsent) history.replaceState(null, "", location.pathname + location.search);

function enter(form, values) {
  for (const field of form.elements) {
    if (!field.name || ["hidden", "file", "password", "submit"].includes(field.type)) continue;
    if (["checkbox", "radio"].includes(field.type)) field.checked = values.getAll(field.name).includes(field.value);
    else if (field.multiple) for (const option of field.options) option.selected = values.getAll(field.name).includes(option.value);
    else field.value = values.get(field.name) ?? field.value;
  }
}
