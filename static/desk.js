// The judging page. Every act here is a form or a link that works without this script; the script makes it fast:
// the comparison fetched ahead is on screen at once, and the verdict travels behind it.
"use strict";

(() => {
  const form = document.getElementById("desk");
  const say = (name) => form.dataset[`say${name}`];
  const byId = (id) => document.getElementById(id);
  const { person, project } = form.dataset;
  const desk = `${form.action}?person=${person}`;
  const DWELL = 300; // ms that a comparison is on screen before a verdict counts: a double click is one verdict
  const RETRIES = [1, 2, 4, 8, 15, 30]; // seconds
  const HEARTBEAT = Math.min(60, (Number(form.dataset.lease) * 60) / 3); // seconds
  const GONE = 410; // the claim's place, or it was settled elsewhere

  // --- What is kept in the browser --------------------------------------------------------------------------

  // What the server has not confirmed. Each verdict and draft has a key of its own, so that two tabs never write over
  // each other's. Where the browser refuses (a private window, a full disk), the page's memory keeps them.
  const memory = new Map();
  const attempt = (act, otherwise) => {
    try {
      return act();
    } catch {
      return otherwise;
    }
  };
  const kept = {
    get: (key) => memory.get(key) ?? attempt(() => JSON.parse(localStorage.getItem(key)), null),
    put(key, value) {
      memory.set(key, value);
      attempt(() => {
        localStorage.setItem(key, JSON.stringify(value));
        memory.delete(key);
      });
    },
    drop(key) {
      memory.delete(key);
      attempt(() => localStorage.removeItem(key));
    },
    keys(prefix) {
      const all = [...memory.keys(), ...attempt(() => Object.keys(localStorage), [])];
      return [...new Set(all)].filter((key) => key.startsWith(prefix)).sort();
    },
  };

  const OUTBOX = `whetstone:outbox:${person}:${project}:`;
  const outbox = () => kept.keys(OUTBOX); // the keys of the verdicts not yet confirmed, oldest first
  const waits = (given) => outbox().some((key) => key.endsWith(`:${given}`));
  const channel = "BroadcastChannel" in window ? new BroadcastChannel(OUTBOX) : null;

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
    if (stacked.matches) window.scrollTo(0, 0); // it is read from the top
    settle();
    announcement = byId("undone")?.textContent ?? announcement;
    if (announcement) byId("announcer").textContent = announcement;
  }

  // What follows from the comparison on screen: the clock, the controls, the draft.
  function settle() {
    shownAt = performance.now();
    lookedAt = 0;
    comparison().removeAttribute("aria-busy");
    byId("verdicts").disabled = !token();
    byId("left-words")?.toggleAttribute("hidden", !token());
    draftTries = 0;
    restoreDraft();
    for (const button of document.querySelectorAll("#strip .verdict")) {
      button.classList.toggle("was", button.value === comparison().dataset.was);
    }
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
    if (!given || comparison().getAttribute("aria-busy") || seconds() * 1000 < DWELL) return;
    const body = written(button);
    body.set("seconds", seconds().toFixed(2));
    kept.put(`${OUTBOX}${Date.now()}:${given}`, body.toString());
    clearTimeout(draftTimer);
    kept.drop(draftKey());
    closeFlag();
    tally();
    button.classList.add("given");
    possible("undo", true);
    possible("redo", false);
    if (ahead.html) {
      const next = ahead.html;
      ahead.html = "";
      show(next, say("Next"));
    } else {
      comparison().setAttribute("aria-busy", "true");
    }
    flush();
  }

  // What the form holds, and the verdict of this button.
  function written(button) {
    const body = new URLSearchParams(new FormData(form, button));
    for (const name of ["csrfmiddlewaretoken", "flag_note"]) body.delete(name);
    return body;
  }

  const isVerdict = (body) => body.get("verdict") !== "skip";
  let today = Number(byId("tally").textContent); // verdicts that the server has counted
  let left = Number(byId("left")?.textContent); // comparisons for this person, counted down from the page's figure

  function tally() {
    const unsent = outbox();
    const verdicts = unsent.filter((key) => isVerdict(new URLSearchParams(kept.get(key))));
    byId("tally").textContent = today + verdicts.length;
    if (byId("left")) byId("left").textContent = Math.max(0, left - unsent.length);
  }

  let sending = false;
  let retry = 0;
  let timer = 0;

  // Send what is in the outbox, in order, one at a time; what the server has answered leaves it.
  async function flush() {
    clearTimeout(timer);
    if (sending || !outbox().length) return status();
    sending = true;
    status();
    try {
      for (let keys = outbox(); keys.length; keys = outbox()) {
        const said = kept.get(keys[0]);
        const body = new URLSearchParams(said);
        if (keys.length > 1) body.set("more", "1");
        if (!comparison().getAttribute("aria-busy")) body.set("shown", token());
        const answer = await post(form.action, body, true);
        if (!answer || !(answer.ok || answer.status === 422)) {
          // Not this verdict is wrong, but for now it cannot be given (no connection, a role taken away, somebody else
          // signed in): it stays here.
          if (answer) receive(answer.html, false);
          return waitAndRetry();
        }
        retry = 0;
        kept.drop(keys[0]);
        const given = body.get("token");
        if (answer.ok) {
          today += isVerdict(body);
          left -= 1;
        } else kept.put(draftKey(given), { at: Date.now(), body: said }); // refused: what was entered stays
        receive(answer.html, answer.ok);
        tally();
        channel?.postMessage({ given, today, left });
      }
    } finally {
      sending = false;
      status();
    }
  }

  // The answer, or null if the request should be sent again later. If one has to sign in, an act leads there (and
  // back, with everything that is kept here); what runs by itself does not take the page away.
  async function post(url, body, isAct = false) {
    body.set("person", person); // somebody else may have signed in since, in another tab
    try {
      let response = await send(url, body);
      if (response.status === 403) {
        // Perhaps the form's token is older than the present sign-in: a look at the page brings a new one.
        const page = await send(desk);
        response = page.headers.has("HX-Redirect") ? page : await send(url, body);
      }
      const login = response.headers.get("HX-Redirect");
      if (login) {
        if (isAct) location.href = login;
        return null;
      }
      const { ok, status } = response;
      return status >= 500 || status === 429 || status === 408 ? null : { ok, status, html: await response.text() };
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
    const counted = brought.querySelector("template#today");
    if (counted) {
      today = Number(counted.content.textContent);
      tally();
    }
    const next = brought.querySelector("template#ahead");
    if (next && !waits(next.content.firstElementChild?.dataset.token)) ahead.html = next.innerHTML;
    const fresh = brought.getElementById("comparison");
    if (fresh && (fresh.dataset.token ?? "") !== token() && !waits(fresh.dataset.token)) {
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

  // How things stand: verdicts and the draft on screen are saved only once the server has said so.
  function status(word) {
    const unsent = outbox().length;
    const waiting = unsent ? !sending || retry : draftTries;
    const state = !unsent && !kept.get(draftKey()) ? "saved" : waiting ? "waiting" : "saving";
    const text = {
      saved: word ?? say("Saved"),
      saving: say("Saving"),
      waiting: unsent ? `${say("Waiting")}${unsent}` : say("Unsent"),
    }[state];
    byId("saved").dataset.state = state;
    byId("saved").firstElementChild.textContent = text;
    if (state === "waiting" && byId("announcer").textContent !== text) byId("announcer").textContent = text;
  }

  // --- Undo and redo ----------------------------------------------------------------------------------------

  // Whether there is something to undo or redo, as far as this page knows. No more than a look: another device may have
  // judged meanwhile, so a press is sent all the same.
  const possible = (id, is) => byId(id).setAttribute("aria-disabled", String(!is));

  async function again(url) {
    if (outbox().length) {
      await flush();
      if (outbox().length) return whetstone.notify(say("Undo"), "warning");
    }
    const body = new URLSearchParams({ view: comparison().dataset.view ?? "", shown: token() });
    const answer = await post(url, body, true);
    if (!answer) return whetstone.notify(byId("notices").dataset.unreachable, "error");
    ahead.html = "";
    const before = token();
    receive(answer.html, answer.ok);
    const [act, back] = url === byId("undo").formAction ? ["undo", "redo"] : ["redo", "undo"];
    possible(act, token() !== before);
    if (token() !== before) {
      possible(back, true);
      left += act === "undo" ? 1 : -1;
    }
    tally();
    channel?.postMessage({ today, left });
  }

  // --- The comparison after this one, and keeping what one holds --------------------------------------------

  async function fetchAhead() {
    if (!token() || ahead.html || outbox().length) return;
    const answer = await post(form.dataset.ahead, new URLSearchParams({ view: comparison().dataset.view ?? "" }));
    if (answer?.ok && !ahead.html) receive(answer.html, true);
  }

  // Show what is one's turn now, with a word if that is something else.
  async function refresh(word) {
    const before = token();
    const response = await send(desk).catch(() => null);
    if (!response?.ok || response.headers.has("HX-Redirect") || response.headers.has("HX-Refresh")) return;
    const html = await response.text();
    if (token() !== before) return; // an act was answered meanwhile: this is older
    receive(html, true);
    if (token() === before) return fetchAhead(); // it was taken back; the one after it was not
    ahead.html = "";
    if (word) whetstone.notify(word);
    fetchAhead();
  }

  let active = true; // since the last heartbeat
  for (const name of ["pointermove", "keydown", "scroll"]) {
    document.addEventListener(name, () => (active = true), { passive: true, capture: true });
  }
  async function beat(always = false) {
    if (!token() || (!always && (document.hidden || !active))) return;
    active = false;
    const asked = token();
    const answer = await post(form.dataset.renew, new URLSearchParams({ token: asked }));
    if (token() !== asked) return;
    if (answer?.status === 409) receive(answer.html, false);
    if (answer?.status === GONE && !outbox().length) refresh(say("Elsewhere"));
    if (answer?.ok) fetchAhead(); // what was fetched ahead may have been what was taken back
  }
  setInterval(beat, HEARTBEAT * 1000);
  // A farewell gives the claim back, though another tab may still show it; and on a reload it can reach the server
  // after the new page's request. Take it back.
  const takeBack = (always) => setTimeout(beat, 1500, always);
  takeBack(false);

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      lookedAt += performance.now() - shownAt;
    } else {
      shownAt = performance.now();
      beat(true);
    }
  });
  window.addEventListener("pagehide", () => {
    const body = new URLSearchParams({ csrfmiddlewaretoken: form.elements.csrfmiddlewaretoken.value, person });
    navigator.sendBeacon(form.dataset.leave, body);
    channel?.postMessage({ closed: true });
  });
  window.addEventListener("online", () => {
    flush();
    sendDraft();
  });

  channel?.addEventListener("message", ({ data }) => {
    if (data.closed) return takeBack(true);
    today = data.today;
    if (!Number.isNaN(data.left)) left = data.left;
    tally();
    possible("undo", true);
    possible("redo", !data.given);
    if (!data.given || data.given === token()) refresh(data.given ? say("Elsewhere") : "");
    else if (data.given === ahead.token) ahead.html = "";
  });

  // --- Drafts -----------------------------------------------------------------------------------------------

  const MONTH = 30 * 24 * 3600 * 1000;
  const DRAFTS = `whetstone:draft:${person}:`;
  const draftKey = (given = token()) => DRAFTS + given;
  let draftTimer = 0;
  let draftTries = 0; // in vain, for the comparison on screen

  const fields = () => comparison().querySelectorAll(".notes input, .notes textarea");

  // What is entered, with the verdict that an undo brought back.
  function noted() {
    const body = written();
    body.set("verdict", comparison().dataset.was ?? "");
    return body;
  }

  function keepDraft() {
    kept.put(draftKey(), { at: Date.now(), body: noted().toString() });
    sendDraftIn(800);
    status();
  }

  function sendDraftIn(wait) {
    clearTimeout(draftTimer);
    draftTimer = setTimeout(sendDraft, wait);
  }

  // Once the server has it, and nothing was typed since, the copy here goes: only what was not sent may win over what
  // another device sends.
  async function sendDraft() {
    const key = draftKey();
    const draft = kept.get(key);
    if (!draft) return;
    const answer = await post(form.dataset.draft, new URLSearchParams(draft.body));
    if (answer?.ok && kept.get(key)?.at === draft.at) kept.drop(key);
    if (key !== draftKey()) return;
    draftTries = answer?.ok ? 0 : draftTries + 1;
    status(say("Draft"));
    if (answer?.status === GONE) refresh(say("Elsewhere"));
    else if (answer && !answer.ok) receive(answer.html, false);
    if (!answer?.ok && answer?.status !== 422) sendDraftIn(RETRIES[Math.min(draftTries, RETRIES.length) - 1] * 1000);
  }

  function restoreDraft() {
    const draft = kept.get(draftKey());
    if (!draft) return;
    fillIn(new URLSearchParams(draft.body));
    sendDraftIn(800);
  }

  function fillIn(said) {
    for (const field of fields()) {
      if (field.type === "textarea") field.value = said.get(field.name) ?? "";
      else field.checked = said.getAll(field.name).includes(field.value);
    }
    comparison().dataset.was = said.get("verdict") ?? "";
  }

  for (const key of kept.keys(DRAFTS)) if (Date.now() - kept.get(key)?.at > MONTH) kept.drop(key);

  form.addEventListener("input", (event) => {
    if (event.target.closest(".notes")) keepDraft();
  });
  window.addEventListener("storage", ({ key }) => {
    if (key === draftKey() && !comparison().contains(document.activeElement)) restoreDraft();
    status();
    tally();
    if (sending || !outbox().length) return;
    clearTimeout(timer);
    timer = setTimeout(flush, 5000); // the tab that the verdict was given in may be gone by then
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
  let linked = kept.get("whetstone:together") ?? true;
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
    kept.put("whetstone:together", linked);
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

  const fromSegments = (event) => event.detail.ctx.sourceElement?.closest?.(".segments");
  let asItWas = null; // while the texts are replaced
  document.addEventListener("htmx:before:swap", (event) => {
    if (fromSegments(event)) asItWas = { shownAt, lookedAt, notes: noted() };
  });
  document.addEventListener("htmx:after:swap", (event) => {
    if (asItWas) {
      fillIn(asItWas.notes); // the draft that came with the texts may be older than what is entered
      settle();
      ({ shownAt, lookedAt } = asItWas);
      asItWas = null;
    } else if (event.detail.ctx.sourceElement?.closest?.("#comparison")) {
      settle();
    } else {
      return;
    }
    fetchAhead();
  });

  // --- Controls and keys ------------------------------------------------------------------------------------

  form.addEventListener("animationend", (event) => event.target.classList.remove("given"));

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const button = event.submitter;
    if (button?.name === "verdict" && button.value) give(button);
    else if (["undo", "redo"].includes(button?.id)) again(button.formAction);
  });
  function closeFlag() {
    byId("flag").open = false;
    byId("flag-note").value = "";
  }
  byId("send-flag").addEventListener("htmx:after:request", (event) => {
    if (event.detail.ctx.response.status !== 200) return; // a notice says why; the note stays
    closeFlag();
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
    const isCharacter = event.key.length === 1; // not an arrow of the number pad
    const digit = isCharacter && event.code.match(/^Digit(\d)$/)?.[1]; // where digits need Shift, the key still counts
    const control = byKey(isCharacter ? event.key.toLowerCase() : event.key) ?? (digit && byKey(digit));
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
  const isJudged = waits(token());
  settle();
  if (isJudged) comparison().setAttribute("aria-busy", "true");
  tally();
  flush();
  fetchAhead();
})();
