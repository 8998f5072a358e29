export const GONE = 410; // the claim's place, or it was settled elsewhere

// The server, as one annotator's page asks it.
export class Server {
  #form;

  constructor(form) {
    this.#form = form;
  }

  // Return the answer, or null if the request should be retried. An act of an annotator who has to sign in leads to the
  // sign-in page (and back, with everything that is kept here). What runs by itself does not take the page away.
  async post(url, fields, { isAct = false } = {}) {
    const body = new URLSearchParams(fields);
    body.set("person", this.#form.dataset.person); // another user may have signed in since, in another tab
    try {
      let response = await request(url, body);
      if (response.status === 403) {
        // Perhaps the form's token is older than the present sign-in: a look at the page brings a new one.
        const page = await request(this.#pageUrl);
        response = page.headers.has("HX-Redirect") ? page : await request(url, body);
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

  // Return the part of the page that is due now, or null.
  async page() {
    const response = await request(`${this.#pageUrl}&view=${this.#form.dataset.view}`).catch(() => null);
    if (!response?.ok || response.headers.has("HX-Redirect") || response.headers.has("HX-Refresh")) return null;
    return response.text();
  }

  // Return the answer to a request for the texts of a comparison in a view, or null if it should be retried.
  async texts(url, view) {
    const response = await request(`${url}?view=${view}`).catch(() => null);
    if (!response || response.headers.has("HX-Redirect")) return null;
    return { ok: response.ok, html: await response.text() };
  }

  // Give the claims back while the page goes away.
  leave(url) {
    const { csrfmiddlewaretoken } = this.#form.elements;
    const { person } = this.#form.dataset;
    navigator.sendBeacon(url, new URLSearchParams({ csrfmiddlewaretoken: csrfmiddlewaretoken.value, person }));
  }

  get #pageUrl() {
    return `${this.#form.action}?person=${this.#form.dataset.person}`;
  }
}

function request(url, body) {
  const csrfToken = document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] ?? "";
  return fetch(url, {
    method: body ? "POST" : "GET",
    body,
    headers: { "HX-Request": "true", "HX-Current-URL": location.href, "X-CSRFToken": csrfToken },
    signal: AbortSignal.timeout(30000),
  });
}
