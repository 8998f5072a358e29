// Elements that ask for themselves again and again: hx-trigger="every …". They end once what they ask for is gone, and
// ask less often where what they show wants it: data-pace is the least time between two requests, in milliseconds.

const GONE = [401, 403, 404, 410];

export class Polls {
  #gone = new WeakSet();
  #asked = new WeakMap();

  // Return whether `element` may ask now. If so, it has asked.
  ask(element, now) {
    const pace = Number(element.querySelector("[data-pace]")?.dataset.pace ?? 0);
    if (this.#gone.has(element) || now - this.#asked.get(element) < pace) return false;
    this.#asked.set(element, now);
    return true;
  }

  // Take in the status of an answer to `element`.
  hear(element, status) {
    if (GONE.includes(status)) this.#gone.add(element);
  }
}

export function watchPolls(page = document) {
  const polls = new Polls();
  const isPoll = ({ sourceEvent }) => sourceEvent?.type === "every";
  page.addEventListener("htmx:before:request", (event) => {
    const { ctx } = event.detail;
    if (isPoll(ctx) && !polls.ask(ctx.sourceElement, performance.now())) event.preventDefault();
  });
  page.addEventListener("htmx:response:error", (event) => {
    const { ctx } = event.detail;
    if (isPoll(ctx)) polls.hear(ctx.sourceElement, ctx.response.status);
  });
}
