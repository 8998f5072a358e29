import assert from "node:assert/strict";
import { test } from "node:test";

import { Drafts } from "../../static/desk/draft.js";
import { Outbox, Sender, retryDelay } from "../../static/desk/outbox.js";
import { Store } from "../../static/desk/store.js";

// What localStorage is to a script: an object with its keys as properties.
class Storage {
  getItem(key) {
    return this[key] ?? null;
  }
  setItem(key, value) {
    this[key] = value;
  }
  removeItem(key) {
    delete this[key];
  }
}

class FullStorage extends Storage {
  setItem() {
    throw new Error("QuotaExceededError");
  }
}

const forbidden = () => {
  throw new Error("SecurityError");
};

const body = (verdict) => new URLSearchParams({ verdict });
const given = (outbox) => outbox.verdicts.map(({ token, body: said }) => [token, said.get("verdict")]);

test("what is kept is there, wherever it can be kept", () => {
  const full = new FullStorage();
  const whole = new Storage();
  for (const storage of [() => whole, () => full, forbidden]) {
    const store = new Store(storage);
    store.put("a:1", { at: 1 });
    store.put("b:1", { at: 2 });
    assert.deepEqual(store.get("a:1"), { at: 1 });
    assert.deepEqual(store.keys("a:"), ["a:1"]);
    store.drop("a:1");
    assert.equal(store.get("a:1"), null);
    assert.deepEqual(store.keys("a:"), []);
  }
});

test("verdicts are listed oldest first, those of other tabs too", () => {
  const storage = new Storage();
  const [mine, theirs] = [0, 1].map(() => new Outbox(new Store(() => storage), "outbox:7:reviews:"));
  mine.add("second", body("b2"), 1700000000002);
  theirs.add("first", body("a1"), 1700000000001);
  new Outbox(new Store(() => storage), "outbox:8:reviews:").add("other", body("tie"), 1);
  assert.deepEqual(given(mine), [["first", "a1"], ["second", "b2"]]);
  assert.deepEqual(mine.verdicts.map(({ at }) => at), [1700000000001, 1700000000002]);
  assert.equal(mine.size, 2);
  assert.ok(mine.holds("first"));
  assert.ok(!mine.holds("fir"));
  theirs.drop(mine.verdicts[0]);
  assert.deepEqual(given(mine), [["second", "b2"]]);
});

test("a confirmed draft goes, unless it was changed since", () => {
  const drafts = new Drafts(new Store(() => storage), "draft:");
  const storage = new Storage();
  drafts.put("t", body("a1"), 1);
  const sent = drafts.get("t");
  drafts.put("t", body("a2"), 2);
  drafts.confirm("t", sent);
  assert.equal(drafts.get("t").body, "verdict=a2");
  drafts.confirm("t", drafts.get("t"));
  assert.equal(drafts.get("t"), null);
});

test("drafts older than a month go", () => {
  const storage = new Storage();
  const drafts = new Drafts(new Store(() => storage), "draft:");
  const day = 24 * 3600 * 1000;
  drafts.put("old", body("a1"), 0);
  drafts.put("new", body("a1"), 2 * day);
  drafts.dropOld(31 * day);
  assert.deepEqual([drafts.get("old"), drafts.get("new")?.at], [null, 2 * day]);
});

test("waits grow to half a minute", () => {
  assert.deepEqual([1, 2, 3, 4, 5, 6, 7, 99].map(retryDelay), [1, 2, 4, 8, 15, 30, 30, 30].map((s) => s * 1000));
});

// A desk that hears what the sender does; `answers` are what the server says, one after the other.
class Listener {
  told = [];
  constructor(answers) {
    this.answers = answers;
  }
  async send({ token }, isMoreToCome) {
    this.told.push(`send ${token}${isMoreToCome ? " more" : ""}`);
    return this.answers.shift();
  }
  taken({ token }, { status }) {
    this.told.push(`taken ${token} ${status}`);
  }
  resumed() {
    this.told.push("resumed");
  }
  postponed(answer) {
    this.told.push(`postponed ${answer?.status ?? "unreachable"}`);
  }
  status() {}
}

function sending(answers, ...tokens) {
  const storage = new Storage();
  const outbox = new Outbox(new Store(() => storage), "outbox:");
  tokens.forEach((token, index) => outbox.add(token, body("a1"), index));
  const listener = new Listener(answers);
  return { outbox, listener, sender: new Sender(outbox, listener) };
}

const OK = { ok: true, status: 200 };

test("verdicts are sent in order, and leave once answered", async () => {
  const { outbox, listener, sender } = sending([OK, { ok: false, status: 422 }], "first", "second");
  await Promise.all([sender.flush(), sender.flush()]); // the second finds the first at work
  assert.deepEqual(listener.told, ["send first more", "resumed", "taken first 200", "send second", "resumed", "taken second 422"]);
  assert.equal(outbox.size, 0);
});

test("a verdict that cannot be given now is retried", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const { outbox, listener, sender } = sending([null, { ok: false, status: 403 }, OK], "first");
  await sender.flush();
  assert.equal(outbox.size, 1);
  const settled = () => new Promise((resolve) => setImmediate(resolve));
  for (const wait of [1000, 2000]) {
    context.mock.timers.tick(wait);
    await settled();
  }
  assert.deepEqual(listener.told, [
    "send first",
    "postponed unreachable",
    "send first",
    "postponed 403",
    "send first",
    "resumed",
    "taken first 200",
  ]);
  assert.equal(sender.failures, 0);
  assert.equal(outbox.size, 0);
});
