// Under the pointer, a chart names the step and the value there. The charts themselves are drawn on the server.

document.addEventListener("pointermove", (event) => {
  const svg = event.target.closest?.(".chart svg[data-points]");
  for (const other of document.querySelectorAll(".chart svg[data-pointed]")) if (other !== svg) release(other);
  if (svg) point(svg, event.clientX);
});

function point(svg, clientX) {
  const box = svg.viewBox.baseVal;
  const area = svg.getBoundingClientRect();
  const x = ((clientX - area.left) / area.width) * box.width;
  const [at, y, step, value] = nearest(pointsOf(svg), x);
  pointer(svg).setAttribute("d", `M${at} 8V${box.height - 24}M${at - 3} ${y}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0`);
  const readout = readoutOf(svg);
  readout.dataset.latest ??= readout.textContent;
  readout.textContent = `${svg.dataset.step} ${step}: ${value}`;
  svg.dataset.pointed = "";
}

function release(svg) {
  const readout = readoutOf(svg);
  readout.textContent = readout.dataset.latest ?? readout.textContent;
  delete readout.dataset.latest;
  delete svg.dataset.pointed;
  pointer(svg).setAttribute("d", "");
}

// A point is [x, y, step, value].
const pointsOf = (svg) => svg.dataset.points.split(";").map((point) => point.split(",").map(Number));
const nearest = (points, x) => points.reduce((best, p) => (Math.abs(p[0] - x) < Math.abs(best[0] - x) ? p : best));
const pointer = (svg) => svg.querySelector(".pointer");
const readoutOf = (svg) => svg.closest(".chart").querySelector("[data-readout]");
