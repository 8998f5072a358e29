import assert from "node:assert/strict";
import { test } from "node:test";

import { Polls } from "../../static/polling.js";

function element(pace) {
  return { querySelector: () => (pace ? { dataset: { pace } } : null) };
}

test("an element asks as seldom as what it shows wants", () => {
  const polls = new Polls();
  const [quick, slow] = [element(), element("3500")];
  const asked = (one) => [0, 700, 1400, 3499, 3500, 4200, 7000].filter((now) => polls.ask(one, now));
  assert.deepEqual(asked(quick), [0, 700, 1400, 3499, 3500, 4200, 7000]);
  assert.deepEqual(asked(slow), [0, 3500, 7000]);
});

test("an element ends once what it asks for is gone, and not after a failure", () => {
  const polls = new Polls();
  const [kept, gone] = [element(), element()];
  for (const status of [429, 500, 503]) polls.hear(kept, status);
  polls.hear(gone, 404);
  assert.equal(polls.ask(kept, 0), true);
  assert.equal(polls.ask(gone, 0), false);
});
