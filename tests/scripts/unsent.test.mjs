import assert from "node:assert/strict";
import { test } from "node:test";

import { Unsent } from "../../static/unsent.js";

const SENT = ["7", 0, "/p/reviews/settings/", "name=Reviews"];
const TAKEN = { isSignedIn: true, referrer: "https://site.example/p/reviews/settings/?tab=1", status: 200, isUnsent: false };

function kept() {
  const items = new Map();
  const storage = {
    getItem: (key) => items.get(key) ?? null,
    setItem: (key, value) => items.set(key, value),
    removeItem: (key) => items.delete(key),
  };
  const unsent = new Unsent(() => storage);
  unsent.keep(...SENT);
  return { unsent, items };
}

test("what was sent is forgotten once the server took it", () => {
  const { unsent, items } = kept();
  assert.equal(unsent.find("7", 0, "/p/reviews/settings/"), "name=Reviews");
  unsent.hear(TAKEN);
  assert.equal(items.size, 0);
});

test("what the server may not have taken is kept", () => {
  const { unsent, items } = kept();
  for (const other of [
    { isSignedIn: false }, // its sign-in had ended
    { status: 403 },
    { status: 503 },
    { referrer: "" },
    { referrer: "https://site.example/login/" },
    { isUnsent: true }, // the form, which fills itself
  ]) {
    unsent.hear({ ...TAKEN, ...other });
    assert.equal(items.size, 1);
  }
});

test("what was sent is given to its own form and user alone", () => {
  const { unsent } = kept();
  assert.equal(unsent.find("8", 0, "/p/reviews/settings/"), null);
  assert.equal(unsent.find("7", 1, "/p/reviews/settings/"), null);
  assert.equal(unsent.find("7", 0, "/p/other/settings/"), null);
});

test("a browser without storage keeps nothing and breaks nothing", () => {
  const unsent = new Unsent(() => {
    throw new Error("SecurityError");
  });
  unsent.keep(...SENT);
  unsent.hear(TAKEN);
  unsent.forget();
  assert.equal(unsent.find("7", 0, "/p/reviews/settings/"), null);
});
