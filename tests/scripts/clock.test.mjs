import assert from "node:assert/strict";
import { test } from "node:test";

import { Clock, Readings } from "../../static/desk/clock.js";
import { Store } from "../../static/desk/store.js";

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

test("reading ends a minute after the last input", () => {
  const time = { now: 0 };
  const clock = clockAt(time);
  time.now = 50_000;
  assert.equal(clock.time, 50_000); // a long text is read without a move
  time.now = 600_000;
  assert.equal(clock.time, 60_000);
  clock.touch();
  assert.equal(clock.time, 60_000);
  time.now = 605_000;
  assert.equal(clock.time, 65_000);
});

test("idle time before the page is hidden does not count", () => {
  const time = { now: 0 };
  const clock = clockAt(time);
  time.now = 300_000;
  clock.pause();
  time.now = 400_000;
  clock.resume();
  time.now = 401_000;
  assert.equal(clock.time, 61_000);
});

test("a look goes on where an earlier one ended", () => {
  const time = { now: 0 };
  const clock = clockAt(time);
  clock.restart(7000);
  time.now = 960;
  assert.equal(clock.time, 7960);
});

test("reading times are kept by token for a day", () => {
  const kept = new Map();
  const storage = {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => kept.set(key, value),
    removeItem: (key) => kept.delete(key),
  };
  const store = new Store(() => storage);
  store.keys = (prefix) => [...kept.keys()].filter((key) => key.startsWith(prefix));
  const readings = new Readings(store);
  readings.put("old", 4000, 0);
  readings.put("new", 7000, 20 * 3600 * 1000);
  readings.put("", 1, 20 * 3600 * 1000);
  readings.dropOld(30 * 3600 * 1000);
  assert.deepEqual([readings.get("old"), readings.get("new")], [0, 7000]);
  readings.drop("new");
  assert.equal(kept.size, 0);
});
