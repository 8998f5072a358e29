import { byId } from "./dom.js";

// The comparison after this one, fetched while this one is read.
export class Ahead {
  get html() {
    return byId("ahead").innerHTML;
  }

  set html(html) {
    byId("ahead").innerHTML = html;
  }

  get token() {
    return byId("ahead").content.firstElementChild?.dataset.token ?? "";
  }

  get isEmpty() {
    return this.html.trim() === "";
  }

  drop() {
    this.html = "";
  }

  // Return it, to be put on screen, or "" if there is none.
  take() {
    const html = this.html.trim();
    this.drop();
    return html;
  }
}
