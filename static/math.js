// Mathematics in model text: loaded only where there is some, and typeset as MathML. What cannot be parsed stays as it
// was written. Temml sets styles through the object model alone, which a strict Content-Security-Policy allows.

const assets = document.getElementById("math-assets").dataset;
const OPTIONS = { throwOnError: true, trust: false, maxExpand: 500, maxSize: [20, 20], wrap: "tex" };
const LONGEST = 2000; // characters of one formula
const NUMBERED = /\\(begin|end)\{(equation|align|gather|multline)\}/g;
const OPENINGS = { "$$": "$$", "\\[": "\\]", "\\(": "\\)", "$": "$" };

function loadScript() {
  return new Promise((resolve, reject) => {
    const script = Object.assign(document.createElement("script"), { src: assets.script, onload: resolve, onerror: reject });
    const style = Object.assign(document.createElement("link"), { rel: "stylesheet", href: assets.sheet });
    document.head.append(style, script);
  });
}

// The formula between its delimiters, and whether it has a line of its own. An environment is a formula as a whole,
// and gets no number, which the text would not have.
export function readSource(source) {
  if (source.startsWith("\\begin{")) return { formula: source.replace(NUMBERED, "\\$1{$2*}"), display: true };
  const [opening, closing] = Object.entries(OPENINGS).find(([one]) => source.startsWith(one));
  const formula = source.slice(opening.length, source.length - closing.length);
  return { formula, display: opening === "$$" || opening === "\\[" };
}

function typeset(element) {
  element.dataset.typeset = "";
  const source = element.textContent;
  const { formula, display } = readSource(source);
  if (source.length > LONGEST) return;
  const drawn = document.createElement("span");
  try {
    window.temml.render(formula, drawn, { ...OPTIONS, displayMode: display });
  } catch {
    return;
  }
  element.replaceChildren(drawn);
  element.title = source;
}

export async function typesetAll() {
  await loaded;
  for (const element of document.querySelectorAll(".math:not([data-typeset])")) typeset(element);
}

const loaded = loadScript();
