// A form that is not left by mistake: <form data-unsaved>. The browser asks before a page with changes in it goes;
// data-unsaved="changed" says that what the form came with is not saved either.

for (const form of document.querySelectorAll("[data-unsaved]")) {
  const entered = () => new URLSearchParams(new FormData(form)).toString();
  const saved = form.dataset.unsaved === "changed" ? "" : entered();
  let sent = false;
  form.addEventListener("submit", () => { sent = true; });
  window.addEventListener("pageshow", () => { sent = false; }); // back again, from the browser's memory
  window.addEventListener("beforeunload", (event) => {
    if (!sent && entered() !== saved) event.preventDefault();
  });
}
