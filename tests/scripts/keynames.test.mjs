import assert from "node:assert/strict";
import { test } from "node:test";

import { keysOf } from "../../static/desk/keynames.js";

test("a key has a name, and a digit counts with Shift", () => {
  const cases = [
    [{ key: "U", code: "KeyU" }, ["u"]],
    [{ key: "1", code: "Digit1" }, ["1", "1"]],
    [{ key: "&", code: "Digit1" }, ["&", "1"]], // French layout
    [{ key: "2", code: "Numpad2" }, ["2"]],
    [{ key: "ArrowDown", code: "Numpad2" }, ["ArrowDown"]], // without Num Lock
    [{ key: "ф", code: "KeyA" }, ["ф", "a"]], // another script
    [{ key: "س", code: "KeyS" }, ["س", "s"]],
    [{ key: "١", code: "Digit1" }, ["١", "1"]],
    [{ key: "€", code: "KeyE", getModifierState: (name) => name === "AltGraph" }, ["€"]],
    [{ key: "a", code: "KeyQ" }, ["a"]], // Latin letters are where they are
  ];
  for (const [event, names] of cases) assert.deepEqual(keysOf(event), names);
});
