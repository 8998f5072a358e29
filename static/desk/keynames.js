// Return the names of the pressed key, the likeliest first. Where digits need Shift, the key still counts as a digit;
// an arrow of the number pad does not. A letter of another script, such as Arabic, counts as the Latin one at its place,
// and what AltGr makes of a key, such as €, does not.
export function keysOf(event) {
  const { key, code } = event;
  if (key.length > 1 || event.getModifierState?.("AltGraph")) return [key];
  const place = code.match(key > "\x7f" ? /^(?:Digit|Key)(\w)$/ : /^Digit(\d)$/)?.[1];
  return place ? [key.toLowerCase(), place.toLowerCase()] : [key.toLowerCase()];
}
