// Under the pointer, a chart names the step and the value there. The charts themselves are drawn on the server.
"use strict";

function nearest(points, x) {
  let best = points[0];
  for (const point of points) if (Math.abs(point[0] - x) < Math.abs(best[0] - x)) best = point;
  return best;
}

document.addEventListener("pointermove", (event) => {
  const svg = event.target.closest?.(".chart svg[data-points]");
  for (const other of document.querySelectorAll(".chart svg[data-pointed]")) if (other !== svg) release(other);
  if (!svg) return;
  const box = svg.viewBox.baseVal;
  const area = svg.getBoundingClientRect();
  const x = ((event.clientX - area.left) / area.width) * box.width;
  const points = svg.dataset.points.split(";").map((point) => point.split(",").map(Number));
  const [at, y, step, value] = nearest(points, x);
  svg.querySelector(".pointer").setAttribute("d", `M${at} 8V${box.height - 24}M${at - 3} ${y}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0`);
  const readout = svg.closest(".chart").querySelector("[data-readout]");
  readout.dataset.latest ??= readout.textContent;
  readout.textContent = `step ${step}: ${value}`;
  svg.dataset.pointed = "";
});

function release(svg) {
  const readout = svg.closest(".chart").querySelector("[data-readout]");
  readout.textContent = readout.dataset.latest ?? readout.textContent;
  delete readout.dataset.latest;
  delete svg.dataset.pointed;
  svg.querySelector(".pointer").setAttribute("d", "");
}
