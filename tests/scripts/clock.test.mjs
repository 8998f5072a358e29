import assert from "node:assert/strict";
import { test } from "node:test";

import { Clock, keysOf } from "../../static/desk/screen.js";

function clockAt(time, isHidden = false) {
  const clock = new Clock(() => time.now, isHidden);
  return clock;
}

test("only the time in sight counts", () => {
  const time = { now: 1000 };
  const clock = clockAt(time);
  time.now = 1500;
  clock.pause();
  time.now = 9000;
  assert.equal(clock.time, 500);
  clock.resume();
  time.now = 9250;
  assert.equal(clock.time, 750);
});

test("pausing or resuming twice changes nothing", () => {
  const time = { now: 0 };
  const clock = clockAt(time);
  time.now = 100;
  clock.resume();
  clock.pause();
  time.now = 200;
  clock.pause();
  assert.equal(clock.time, 100);
});

test("another comparison starts at zero", () => {
  const time = { now: 0 };
  const clock = clockAt(time);
  time.now = 400;
  clock.restart();
  assert.equal(clock.time, 0);
  time.now = 450;
  assert.equal(clock.time, 50);
});

test("a hidden page counts nothing, restarted or not", () => {
  const time = { now: 0 };
  const clock = clockAt(time, true);
  time.now = 100;
  clock.restart();
  time.now = 200;
  assert.equal(clock.time, 0);
  clock.resume();
  time.now = 230;
  assert.equal(clock.time, 30);
});

test("a key has a name, and a digit counts with Shift", () => {
  const cases = [
    [{ key: "U", code: "KeyU" }, ["u"]],
    [{ key: "1", code: "Digit1" }, ["1", "1"]],
    [{ key: "&", code: "Digit1" }, ["&", "1"]], // French layout
    [{ key: "2", code: "Numpad2" }, ["2"]],
    [{ key: "ArrowDown", code: "Numpad2" }, ["ArrowDown"]], // without Num Lock
  ];
  for (const [event, names] of cases) assert.deepEqual(keysOf(event), names);
});
