// A button that copies a field: <button data-copy="#field" data-copied="Copied">.

document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("[data-copy]");
  if (!button) return;
  const field = document.querySelector(button.dataset.copy);
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
  } catch {
    return; // without permission, or over plain HTTP: the text is selected, to be copied by hand
  }
  const label = button.textContent;
  button.textContent = button.dataset.copied;
  setTimeout(() => { button.textContent = label; }, 2000);
});

// A page with a secret answers a form: reloaded, or come back to, it is the plain page and sends nothing again.
for (const shown of document.querySelectorAll("[data-shown-once]")) {
  history.replaceState(null, "", shown.dataset.shownOnce);
}
