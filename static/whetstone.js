// The parts that every page shares: the theme switch, menus that close, notices, and what to say when a request fails.
// Everything here improves a page that already works without it.

import { watchPolls } from "./polling.js";
import { unsent } from "./unsent.js";

const notices = document.getElementById("notices");

// Show a notice in the corner. `level` is success, warning, error or info; errors stay until dismissed, or until
// `clearErrors` hears that what they are about is over.
export function notify(text, level = "info", about = "") {
  const notice = document.getElementById("notice-template").content.firstElementChild.cloneNode(true);
  notice.classList.add(level);
  notice.dataset.about = about;
  notice.querySelector("span").textContent = text;
  notices.append(notice);
}

// Take errors away that no longer hold. `isOver` tells by what a notice is about, and when it was shown (ms).
export function clearErrors(isOver) {
  for (const notice of notices.querySelectorAll(".error")) {
    if (isOver(notice.dataset.about ?? "", Number(notice.dataset.seen))) notice.remove();
  }
}

// Take away what was said of an act that is past.
export function clearSuccesses() {
  for (const notice of notices.querySelectorAll(".success")) notice.remove();
}

// A notice that is pointed at, or has the focus, stays.
function fade(notice) {
  if (notice.classList.contains("error")) return;
  setTimeout(() => (notice.matches(":hover, :focus-within") ? fade(notice) : notice.remove()), 8000);
}

// A notice that says the same as an earlier one replaces it.
function replaceSame(notice) {
  const text = notice.querySelector("span").textContent;
  for (const other of notices.querySelectorAll("[data-notice]")) {
    if (other !== notice && other.querySelector("span").textContent === text) other.remove();
  }
}

// Notices come with the page, with answers, and from scripts.
function takeInAll() {
  for (const notice of notices.querySelectorAll("[data-notice]:not([data-seen])")) {
    notice.dataset.seen = Date.now();
    replaceSame(notice);
    fade(notice);
  }
}

new MutationObserver(takeInAll).observe(notices, { childList: true });
takeInAll();

// Return whether a key goes to an input method, such as one for Japanese. Safari tells by the key's number alone.
export function isComposing(event) {
  return event.isComposing || event.keyCode === 229;
}

// --- What a form sent: taken, if this page with a user is the answer ---

unsent.hear({
  isSignedIn: document.body.hasAttribute("data-signed-in"),
  referrer: document.referrer,
  status: performance.getEntriesByType("navigation")[0]?.responseStatus ?? 200,
  isUnsent: location.hash === "#unsent",
});

// --- Cookies for pages: the theme, and the reader's time zone ---

function remember(name, value) {
  const secure = location.protocol === "https:" ? "; secure" : "";
  document.cookie = `${name}=${value}; path=/; max-age=31536000; samesite=lax${secure}`;
}

// The server writes times in this zone from the next page on. Until then it writes the site's zone, by its name.
remember("timezone", Intl.DateTimeFormat().resolvedOptions().timeZone);

// --- Mathematics and code in texts, where there are some ---

function typeset() {
  if (document.querySelector(".math:not([data-typeset])")) import("./math.js").then((math) => math.typesetAll());
}

function giveTools() {
  for (const block of document.querySelectorAll(".code-block:not(:has(.code-tools))")) {
    block.prepend(document.getElementById("code-tools").content.cloneNode(true));
  }
}

// Wrap lines of code or not: by the width of their box, until it is chosen for all of them.
export function toggleWrap(code = document.querySelector(".code-block pre")) {
  if (!code) return;
  const isWrapped = getComputedStyle(code).whiteSpace === "pre-wrap";
  keepWrap(isWrapped ? "off" : "on");
}

function keepWrap(wrap) {
  document.documentElement.dataset.wrap = wrap;
  try {
    localStorage.setItem("whetstone:wrap", wrap);
  } catch {
    // The browser keeps nothing: this page alone.
  }
}

function readWrap() {
  try {
    return localStorage.getItem("whetstone:wrap");
  } catch {
    return null;
  }
}

async function copyCode(button) {
  const code = button.closest(".code-block").querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    return window.getSelection().selectAllChildren(code); // without permission, or over plain HTTP: to copy by hand
  }
  const label = button.textContent;
  button.textContent = button.dataset.copied;
  setTimeout(() => (button.textContent = label), 2000);
}

document.addEventListener("click", ({ target }) => {
  if (target.closest?.(".code-tools [data-wrap]")) toggleWrap(target.closest(".code-block")?.querySelector("pre"));
  else if (target.closest?.("[data-copy-code]")) copyCode(target);
});

for (const dress of [typeset, giveTools]) {
  new MutationObserver(dress).observe(document.body, { childList: true, subtree: true });
  dress();
}
if (readWrap()) keepWrap(readWrap());

// --- Menus and dialogs ---

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
  if (event.key !== "Escape" || isComposing(event)) return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

// --- Forms that ask first, and the theme ---

document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.confirm ?? event.target.dataset.confirm; // buttons may ask for themselves
  if (!question || window.confirm(question)) return;
  event.preventDefault();
  event.stopImmediatePropagation();
}, true);

document.addEventListener("submit", (event) => {
  if (!event.target.hasAttribute("data-theme-toggle")) return;
  event.preventDefault();
  const { dataset } = document.documentElement;
  const isDark = dataset.theme ? dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  dataset.theme = isDark ? "light" : "dark";
  remember("theme", dataset.theme);
}, true);

// --- Requests of htmx ---

watchPolls();

// Our own error pages name where they want to go (HX-Retarget). Anything else, such as a proxy's page, stays out.
document.addEventListener("htmx:before:swap", (event) => {
  const { response, hx } = event.detail.ctx;
  if (response?.status >= 500 && !hx?.retarget) {
    event.preventDefault();
    notify(notices.dataset.failed, "error");
  }
});

// Reloaded figures keep at least their height: a button below them must not move away from a press.
document.addEventListener("htmx:before:swap", ({ target }) => {
  const figures = target.closest?.(".ready");
  if (figures) figures.style.minHeight = `${figures.getBoundingClientRect().height}px`;
});

document.addEventListener("htmx:error", (event) => {
  if (event.detail.ctx) notify(notices.dataset.unreachable, "error");
});

// When a page is morphed, the focused element may be gone, such as a button that no longer applies. The focus then
// stays with the page, not with the top of the window.
{
  let focused = null;
  document.addEventListener("htmx:before:swap", () => {
    focused = document.activeElement;
  });
  document.addEventListener("htmx:after:swap", () => {
    const isLost = focused?.isConnected === false && document.activeElement === document.body;
    if (isLost) document.getElementById("main").focus({ preventScroll: true });
    focused = null;
  });
}

// --- The row of a project's pages ---

// If the row is longer than the screen, show the page that is open, and on which side there is more.
function scrollNavigation(row) {
  const middle = (element) => {
    const { left, width } = element.getBoundingClientRect();
    return left + width / 2;
  };
  const showMore = () => {
    const { left, right } = row.getBoundingClientRect();
    const items = [...row.children].map((item) => item.getBoundingClientRect());
    row.toggleAttribute("data-more-left", items.some((item) => item.left < left - 1));
    row.toggleAttribute("data-more-right", items.some((item) => item.right > right + 1));
  };
  const current = row.querySelector("[aria-current]");
  if (current) row.scrollLeft += middle(current) - middle(row);
  row.addEventListener("scroll", showMore, { passive: true });
  window.addEventListener("resize", showMore);
  showMore();
}

const navigation = document.querySelector(".navigation");
if (navigation) scrollNavigation(navigation);

// --- What scrolls by itself ---

// It is a stop of the Tab key only while there is something to scroll.
const scrollers = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const { scrollHeight, clientHeight, scrollWidth, clientWidth } = target;
    if (scrollHeight > clientHeight + 1 || scrollWidth > clientWidth + 1) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});

function watchScrollers() {
  for (const element of document.querySelectorAll(".bounded")) scrollers.observe(element);
}

document.addEventListener("htmx:after:swap", watchScrollers);
watchScrollers();
