// What a form sent, kept in this tab until a page shows that the server took it. A sign-in that had ended shows a page
// without a user instead, and the form holds what was sent again once its user has signed in.

const KEPT = "whetstone:unsent";

export class Unsent {
  constructor(storage) {
    this.storage = storage; // a function, as a browser may refuse to name its storage at all
  }

  read() {
    try {
      return JSON.parse(this.storage().getItem(KEPT));
    } catch {
      return null; // the browser keeps nothing
    }
  }

  keep(person, index, path, entered) {
    try {
      this.storage().setItem(KEPT, JSON.stringify({ person, index, path, entered }));
    } catch {
      // Too large, or refused: as without this script.
    }
  }

  forget() {
    try {
      this.storage().removeItem(KEPT);
    } catch {
      // Nothing is kept.
    }
  }

  // Return what the form with this place on a page sent, if it is kept.
  find(person, index, path) {
    const kept = this.read();
    return kept && kept.person === person && kept.index === index && kept.path === path ? kept.entered : null;
  }

  // A page that came from the form, with a user and without an error, is the server's answer: it took what was sent.
  hear({ isSignedIn, referrer, status, isUnsent }) {
    const kept = this.read();
    if (!kept || !isSignedIn || isUnsent || !referrer || status >= 400) return;
    if (new URL(referrer).pathname === kept.path) this.forget();
  }
}

export const unsent = new Unsent(() => window.sessionStorage);
