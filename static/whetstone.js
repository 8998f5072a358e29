// What every page shares: the theme switch, menus that close, notices, and what to say when a request fails.
// Everything here improves a page that already works without it.
"use strict";

const whetstone = {
  // Show a notice in the corner. `level` is success, warning, error or info; errors stay until dismissed.
  notify(text, level = "info") {
    const notices = document.getElementById("notices");
    const notice = document.getElementById("notice-template").content.firstElementChild.cloneNode(true);
    notice.classList.add(level);
    notice.querySelector("span").textContent = text;
    for (const other of notices.querySelectorAll("[data-notice] > span")) {
      if (other.textContent === text) other.parentElement.remove();
    }
    notices.append(notice);
    whetstone.fade(notice);
  },

  fade(notice) {
    if (!notice.classList.contains("error")) setTimeout(() => notice.remove(), 8000);
  },

  csrfToken() {
    return document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] ?? "";
  },
};

document.addEventListener("click", (event) => {
  event.target.closest?.("[data-dismiss]")?.closest("[data-notice]")?.remove();
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
  const opener = event.target.closest?.("[data-opens]");
  if (opener) {
    event.preventDefault();
    document.getElementById(opener.dataset.opens).showModal();
  }
  if (event.target.closest?.("[data-closes]")) event.target.closest("dialog").close();
  if (event.target instanceof HTMLDialogElement) event.target.close(); // a click on the backdrop
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  const question = event.submitter?.dataset.confirm ?? form.dataset.confirm; // buttons of one form ask for themselves
  if (question && !window.confirm(question)) {
    event.preventDefault();
    event.stopImmediatePropagation();
  } else if (form.hasAttribute("data-theme-toggle")) {
    event.preventDefault();
    const root = document.documentElement;
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : window.matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    const secure = location.protocol === "https:" ? "; secure" : "";
    document.cookie = `theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=lax${secure}`;
  }
}, true);

// Our own error pages name where they want to go (HX-Retarget). Anything else, such as a proxy's page, stays out.
document.addEventListener("htmx:before:swap", (event) => {
  const { response, hx } = event.detail.ctx;
  if (response?.status >= 500 && !hx?.retarget) {
    event.preventDefault();
    whetstone.notify(document.getElementById("notices").dataset.failed, "error");
  }
});

// Where a page is morphed, what had the focus may be gone, such as a button that no longer applies. The focus then
// stays with the page, not with the top of the window.
let focused = null;
document.addEventListener("htmx:before:swap", () => {
  focused = document.activeElement;
});
document.addEventListener("htmx:after:swap", () => {
  const main = document.getElementById("main");
  if (focused?.isConnected === false && document.activeElement === document.body) main.focus({ preventScroll: true });
  focused = null;
});

document.addEventListener("htmx:error", (event) => {
  if (event.detail.ctx) whetstone.notify(document.getElementById("notices").dataset.unreachable, "error");
});

document.addEventListener("htmx:after:settle", () => {
  for (const notice of document.querySelectorAll("#notices [data-notice]:not([data-seen])")) {
    notice.dataset.seen = "";
    whetstone.fade(notice);
  }
});

for (const notice of document.querySelectorAll("#notices [data-notice]")) whetstone.fade(notice);

// Where the row of a project's pages is longer than the screen: show the one that is open, and on which side there is more.
{
  const row = document.querySelector(".navigation");
  const middle = (element) => {
    const { left, width } = element.getBoundingClientRect();
    return left + width / 2;
  };
  const fade = () => {
    const { left, right } = row.getBoundingClientRect();
    const items = [...row.children].map((item) => item.getBoundingClientRect());
    row.toggleAttribute("data-more-left", items.some((item) => item.left < left - 1));
    row.toggleAttribute("data-more-right", items.some((item) => item.right > right + 1));
  };
  const current = row?.querySelector("[aria-current]");
  if (current) row.scrollLeft += middle(current) - middle(row);
  if (row) {
    row.addEventListener("scroll", fade, { passive: true });
    window.addEventListener("resize", fade);
    fade();
  }
}
