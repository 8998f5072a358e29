// The judging page. Every act here is a form or a link that works without this script; the script makes it fast:
// the comparison fetched ahead is on screen at once, and the verdict travels behind it.
"use strict";

(() => {
  const form = document.getElementById("desk");
  const say = (name) => form.dataset[`say${name}`];
  const byId = (id) => document.getElementById(id);
  const DWELL = 300; // ms that a comparison is on screen before a verdict counts: a double click is one verdict
  const RETRIES = [1, 2, 4, 8, 15, 30]; // seconds
  const HEARTBEAT = Math.min(60, (Number(form.dataset.lease) * 60) / 3); // seconds

  // --- What is kept in the browser --------------------------------------------------------------------------

  const store = {
    outboxKey: `whetstone:outbox:${form.dataset.person}:${form.dataset.project}`,
    draftsKey: `whetstone:drafts:${form.dataset.person}`,
    read(key, otherwise) {
      try {
        return JSON.parse(localStorage.getItem(key)) ?? otherwise;
      } catch {
        return otherwise;
      }
    },
    write(key, value) {
      try {
        localStorage.setItem(key, JSON.stringify(value));
      } catch {
        // Private windows may refuse. The page in memory still sends.
      }
    },
  };

  let outbox = store.read(store.outboxKey, []); // verdicts not yet confirmed, oldest first: {token, body}
  const keepOutbox = () => store.write(store.outboxKey, outbox);
  const channel = "BroadcastChannel" in window ? new BroadcastChannel(store.outboxKey) : null;

  // --- What is on screen ------------------------------------------------------------------------------------

  const comparison = () => byId("comparison");
  const token = () => comparison().dataset.token ?? "";
  let shownAt = performance.now();
  let lookedAt = 0; // ms that the comparison was visible, before `shownAt`

  const seconds = () => (lookedAt + (document.hidden ? 0 : performance.now() - shownAt)) / 1000;

  // Put a comparison on screen. Focus stays on the control, or on the part of the page that it was on.
  function show(html, announcement) {
    const focused = document.activeElement?.id;
    htmx.swap({ text: html, target: comparison(), swap: "outerHTML", sourceElement: form });
    if (focused && document.activeElement?.id !== focused) byId(focused)?.focus({ preventScroll: true });
    settle();
    if (announcement) byId("announcer").textContent = announcement;
  }

  // What follows from the comparison on screen: the clock, the controls, the draft.
  function settle() {
    shownAt = performance.now();
    lookedAt = 0;
    comparison().removeAttribute("aria-busy");
    byId("verdicts").disabled = !token();
    for (const button of document.querySelectorAll("#strip .verdict")) {
      button.classList.toggle("was", button.value === comparison().dataset.was);
    }
    restoreDraft();
    scrollTogether();
    const chat = comparison().querySelector(".message") && byId("prompt-body");
    if (chat) chat.scrollTop = chat.scrollHeight; // a chat is read from what was said last
  }

  const ahead = {
    get html() {
      return byId("ahead").innerHTML.trim();
    },
    set html(value) {
      byId("ahead").innerHTML = value;
    },
    get token() {
      return byId("ahead").content.firstElementChild?.dataset.token ?? "";
    },
  };

  // --- Verdicts ---------------------------------------------------------------------------------------------

  function give(button) {
    const given = token();
    if (!given || comparison().getAttribute("aria-busy") || performance.now() - shownAt < DWELL) return;
    const body = new URLSearchParams(new FormData(form, button));
    body.delete("csrfmiddlewaretoken");
    body.delete("flag_note");
    body.set("seconds", seconds().toFixed(2));
    outbox.push({ token: given, body: body.toString() });
    keepOutbox();
    forgetDraft(given);
    byId("flag").open = false;
    byId("flag-note").value = "";
    if (button.value !== "skip") count(1);
    if (ahead.html) {
      const next = ahead.html;
      ahead.html = "";
      show(next, say("Next"));
    } else {
      comparison().setAttribute("aria-busy", "true");
    }
    flush();
  }

  function count(by) {
    const tally = byId("tally");
    tally.textContent = Math.max(0, Number(tally.textContent) + by);
  }

  let sending = false;
  let retry = 0;
  let timer = 0;

  // Send what is in the outbox, in order, one at a time; what the server has confirmed leaves it.
  async function flush() {
    clearTimeout(timer);
    if (sending || !outbox.length) return status();
    sending = true;
    status();
    try {
      while (outbox.length) {
        const item = outbox[0];
        const body = new URLSearchParams(item.body);
        if (outbox.length > 1) body.set("more", "1");
        if (!comparison().getAttribute("aria-busy")) body.set("shown", token());
        const answer = await post(form.action, body, true);
        if (!answer) return waitAndRetry();
        if (!answer.ok && answer.status !== 422) {
          // Not this verdict is wrong, but for now it is not ours to give (a role was taken away): it stays here.
          receive(await answer.text(), false);
          return waitAndRetry();
        }
        retry = 0;
        outbox = outbox.filter((other) => other !== item);
        keepOutbox();
        channel?.postMessage(item.token);
        receive(await answer.text(), answer.ok);
      }
    } finally {
      sending = false;
      status();
    }
  }

  // The response, or null if the request should be sent again later. If one has to sign in, an act leads there (and
  // back, with everything that is kept here); what runs by itself does not take the page away.
  async function post(url, body, isAct = false) {
    try {
      let response = await send(url, body);
      if (response.status === 403) {
        // Perhaps the form's token is older than the present sign-in: a look at the page brings a new one.
        const page = await send(form.action);
        response = page.headers.has("HX-Redirect") ? page : await send(url, body);
      }
      const login = response.headers.get("HX-Redirect");
      if (login) {
        if (isAct) location.href = login;
        return null;
      }
      return response.status >= 500 || response.status === 429 || response.status === 408 ? null : response;
    } catch {
      return null;
    }
  }

  const send = (url, body) =>
    fetch(url, {
      method: body ? "POST" : "GET",
      body,
      headers: { "HX-Request": "true", "HX-Current-URL": location.href, "X-CSRFToken": whetstone.csrfToken() },
      signal: AbortSignal.timeout(30000),
    });

  function waitAndRetry() {
    timer = setTimeout(flush, RETRIES[Math.min(retry++, RETRIES.length - 1)] * 1000);
  }

  // Take in what an answer brings: a comparison unless it is judged already, the one ahead, a word.
  function receive(html, accepted) {
    const brought = new DOMParser().parseFromString(html, "text/html");
    for (const word of brought.querySelectorAll("template[data-word]")) {
      whetstone.notify(word.content.textContent, word.dataset.word);
    }
    const notice = brought.querySelector("[data-notice] > span");
    if (!accepted && notice) whetstone.notify(notice.textContent, "error");
    const next = brought.querySelector("template#ahead");
    if (next && !waits(next.content.firstElementChild?.dataset.token)) ahead.html = next.innerHTML;
    const fresh = brought.getElementById("comparison");
    if (fresh && fresh.dataset.token !== token() && !waits(fresh.dataset.token)) {
      show(fresh.outerHTML, say("Next"));
    } else if (comparison().getAttribute("aria-busy")) {
      if (ahead.html) {
        const html = ahead.html;
        ahead.html = "";
        show(html, say("Next"));
      } else if (fresh) {
        settle();
      }
    }
    if (ahead.token && ahead.token === token()) ahead.html = "";
  }

  const waits = (given) => outbox.some((item) => item.token === given);

  function status(word) {
    const saved = byId("saved");
    const unsent = outbox.length;
    const state = !unsent ? "saved" : sending && !retry ? "saving" : "waiting";
    saved.dataset.state = state;
    const text = { saved: word ?? say("Saved"), saving: say("Saving"), waiting: `${say("Waiting")}${unsent}` }[state];
    saved.firstElementChild.textContent = text;
    if (state === "waiting") byId("announcer").textContent = text;
  }

  // --- Undo and redo ----------------------------------------------------------------------------------------

  async function again(url, by) {
    if (outbox.length) {
      await flush();
      if (outbox.length) return whetstone.notify(say("Undo"), "warning");
    }
    const body = new URLSearchParams({ view: comparison().dataset.view ?? "", shown: token() });
    const answer = await post(url, body, true);
    if (!answer) return whetstone.notify(byId("notices").dataset.unreachable, "error");
    const html = await answer.text();
    if (!html.includes('data-word="error"')) count(by);
    ahead.html = "";
    receive(html, answer.ok);
    channel?.postMessage("");
  }

  // --- The comparison after this one, and keeping what one holds --------------------------------------------

  async function fetchAhead() {
    if (!token() || ahead.html || outbox.length) return;
    const answer = await post(form.dataset.ahead, new URLSearchParams({ view: comparison().dataset.view ?? "" }));
    if (answer?.ok && !ahead.html) receive(await answer.text(), true);
  }

  async function refresh(word) {
    const response = await fetch(form.action, { headers: { "HX-Request": "true" } }).catch(() => null);
    if (!response?.ok || response.headers.get("HX-Redirect")) return;
    const brought = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("comparison");
    if (!brought || brought.dataset.token === token() || waits(brought.dataset.token)) return;
    ahead.html = "";
    show(brought.outerHTML);
    if (word) whetstone.notify(word);
    fetchAhead();
  }

  let active = true; // since the last heartbeat
  for (const name of ["pointermove", "keydown", "scroll"]) {
    document.addEventListener(name, () => (active = true), { passive: true, capture: true });
  }
  async function beat() {
    if (!token() || document.hidden || !active) return;
    active = false;
    const answer = await post(form.dataset.renew, new URLSearchParams({ token: token() }));
    if (answer?.status === 409 && !outbox.length) refresh(say("Elsewhere"));
  }
  setInterval(beat, HEARTBEAT * 1000);
  // On a reload, the old page's farewell can reach the server after the new page's request: take the claim back.
  setTimeout(beat, 1500);

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      lookedAt += performance.now() - shownAt;
    } else {
      shownAt = performance.now();
      beat();
    }
  });
  window.addEventListener("pagehide", () => {
    const body = new URLSearchParams({ csrfmiddlewaretoken: form.elements.csrfmiddlewaretoken.value });
    navigator.sendBeacon(form.dataset.leave, body);
  });
  window.addEventListener("online", flush);

  channel?.addEventListener("message", ({ data }) => {
    if (!data || data === token()) refresh(data ? say("Elsewhere") : "");
    else if (data === ahead.token) ahead.html = "";
  });

  // --- Drafts -----------------------------------------------------------------------------------------------

  const MONTH = 30 * 24 * 3600 * 1000;
  let draftTimer = 0;

  const fields = () => comparison().querySelectorAll(".notes input, .notes textarea");

  function keepDraft() {
    const drafts = store.read(store.draftsKey, {});
    for (const [key, draft] of Object.entries(drafts)) if (Date.now() - draft.at > MONTH) delete drafts[key];
    const values = [...fields()].map((field) => (field.type === "textarea" ? field.value : field.checked));
    drafts[token()] = { at: Date.now(), values };
    store.write(store.draftsKey, drafts);
    clearTimeout(draftTimer);
    draftTimer = setTimeout(sendDraft, 800);
  }

  async function sendDraft() {
    if (!token()) return;
    const body = new URLSearchParams(new FormData(form));
    body.delete("csrfmiddlewaretoken");
    const answer = await post(form.dataset.draft, body);
    if (answer?.status === 204 && !outbox.length) status(say("Draft"));
  }

  function restoreDraft() {
    const draft = store.read(store.draftsKey, {})[token()];
    const all = [...fields()];
    if (draft?.values.length !== all.length) return;
    all.forEach((field, index) => {
      if (field.type === "textarea") field.value = draft.values[index];
      else field.checked = draft.values[index];
    });
  }

  function forgetDraft(given) {
    clearTimeout(draftTimer);
    const drafts = store.read(store.draftsKey, {});
    delete drafts[given];
    store.write(store.draftsKey, drafts);
  }

  form.addEventListener("input", (event) => {
    if (event.target.closest(".notes")) keepDraft();
  });
  window.addEventListener("storage", (event) => {
    if (event.key === store.draftsKey && !comparison().contains(document.activeElement)) restoreDraft();
    if (event.key === store.outboxKey && !sending) {
      outbox = store.read(store.outboxKey, []);
      status();
    }
  });
  // A radio that is chosen can be given back by choosing it again: everything beside the verdict is optional.
  form.addEventListener("pointerdown", (event) => {
    const radio = event.target.closest?.(".criterion label")?.querySelector("input");
    if (radio) radio.dataset.clear = radio.checked ? "yes" : "";
  });
  form.addEventListener("click", (event) => {
    if (event.target.matches?.(".criterion input") && event.target.dataset.clear) {
      event.target.checked = false;
      event.target.dataset.clear = "";
      keepDraft();
    }
  });

  // --- Reading: raw, differences, scrolling -----------------------------------------------------------------

  const together = byId("together");
  together.hidden = false;
  let linked = store.read("whetstone:together", true);
  const panes = () => [...document.querySelectorAll(".panes .pane-body")];

  function scrollTogether() {
    together.setAttribute("aria-pressed", String(linked));
    panes().forEach((pane, index, both) => {
      pane.onscroll = () => {
        const other = both[1 - index];
        if (linked && pane.matches(":hover, :focus-within, [data-leads]") && other.scrollTop !== pane.scrollTop) {
          other.scrollTop = pane.scrollTop;
        }
      };
    });
  }
  together.addEventListener("click", () => {
    linked = !linked;
    store.write("whetstone:together", linked);
    scrollTogether();
  });

  const stacked = window.matchMedia("(max-width: 60rem)");
  function scroll(by) {
    if (stacked.matches) return window.scrollBy({ top: by * window.innerHeight * 0.4 });
    for (const pane of panes()) pane.scrollTop += by * pane.clientHeight * 0.6;
  }

  const acts = {
    down: () => scroll(1),
    up: () => scroll(-1),
    notes: () => {
      const notes = comparison().querySelector(".notes");
      (notes?.querySelector("textarea") ?? notes?.querySelector("input"))?.focus();
    },
  };

  // A view that is on goes back to the plain one.
  form.addEventListener("click", (event) => {
    const link = event.target.closest?.(".segments a[aria-current]");
    if (!link || link.dataset.view === "rendered") return;
    event.preventDefault();
    event.stopImmediatePropagation();
    comparison().querySelector('.segments a[data-view="rendered"]').click();
  }, true);

  document.addEventListener("htmx:after:swap", (event) => {
    if (event.detail.ctx.sourceElement?.closest?.(".segments, #comparison")) {
      const looked = [shownAt, lookedAt];
      settle();
      if (event.detail.ctx.sourceElement.closest(".segments")) [shownAt, lookedAt] = looked;
      fetchAhead();
    }
  });

  // --- Controls and keys ------------------------------------------------------------------------------------

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const button = event.submitter;
    if (button?.name === "verdict" && button.value) give(button);
    else if (button?.id === "undo") again(button.formAction, -1);
    else if (button?.id === "redo") again(button.formAction, 1);
  });
  byId("send-flag").addEventListener("htmx:after:request", () => {
    byId("flag").open = false;
    byId("flag-note").value = "";
    byId("flag").querySelector("summary").focus();
  });
  // At once, not on the toggle event after it: what is typed next belongs to the note.
  byId("flag").querySelector("summary").addEventListener("click", (event) => {
    event.preventDefault();
    byId("flag").open = !byId("flag").open;
    if (byId("flag").open) byId("flag-note").focus();
  });

  const typing = (element) =>
    element?.isContentEditable || element?.matches?.("textarea, select, input:not([type=checkbox], [type=radio])");

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && comparison().contains(event.target) && typing(event.target)) {
      event.target.blur();
      return byId("main").focus({ preventScroll: true });
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return;
    if (typing(event.target) || document.querySelector("dialog[open]")) return;
    const digit = event.code.match(/^(?:Digit|Numpad)(\d)$/)?.[1]; // where digits need Shift, the key still counts
    const control = byKey(event.key.length === 1 ? event.key.toLowerCase() : event.key) ?? (digit && byKey(digit));
    if (!control || control.closest(":disabled")) return;
    event.preventDefault();
    if (event.repeat && !["down", "up"].includes(control.dataset.act)) return;
    if (control.dataset.act) acts[control.dataset.act]();
    else control.click();
  });

  const byKey = (key) =>
    [...document.querySelectorAll("[data-key]")].find((control) => control.dataset.key === key);

  // --- Begin ------------------------------------------------------------------------------------------------

  // What waits in the outbox was judged before this page was opened: do not ask for it again.
  if (waits(token())) comparison().setAttribute("aria-busy", "true");
  settleOnLoad();

  function settleOnLoad() {
    const busy = comparison().getAttribute("aria-busy");
    settle();
    if (busy) comparison().setAttribute("aria-busy", "true");
    flush();
    fetchAhead();
  }
})();
