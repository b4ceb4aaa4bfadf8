"use strict";
const front = JSON.parse(document.getElementById("front").textContent);
const plot = document.getElementById("plot"), svg = plot.querySelector("svg");
const tip = document.getElementById("tip"), ring = document.getElementById("ring");
const REACH = 14;
function nearest(x, y) {
  let best = null, least = REACH * REACH;
  for (const places of front.places) {
    for (let row = 0; row < front.rows.length; row++) {
      const px = places[2 * row], py = places[2 * row + 1];
      if (px === null) continue;
      const d = (px - x) * (px - x) + (py - y) * (py - y);
      if (d < least) { least = d; best = {row, px, py}; }
    }
  }
  return best;
}
function show(event) {
  const box = svg.getBoundingClientRect();
  const found = nearest((event.clientX - box.left) * front.width / box.width, (event.clientY - box.top) * front.height / box.height);
  if (!found) { tip.hidden = true; ring.style.display = "none"; return; }
  tip.replaceChildren();
  front.columns.forEach((name, k) => {
    const cell = front.rows[found.row][k];
    if (cell === null) return;
    const line = tip.appendChild(document.createElement("tr"));
    line.appendChild(document.createElement("th")).textContent = name;
    line.appendChild(document.createElement("td")).textContent = cell;
  });
  tip.hidden = false;
  const left = event.clientX + 18, top = event.clientY + 18;
  tip.style.left = Math.max(0, left + tip.offsetWidth > innerWidth ? event.clientX - tip.offsetWidth - 18 : left) + "px";
  tip.style.top = Math.max(0, Math.min(top, innerHeight - tip.offsetHeight - 4)) + "px";
  const scale = box.width / front.width;
  const frame = plot.getBoundingClientRect();
  ring.style.left = (found.px * scale + box.left - frame.left) + "px";
  ring.style.top = (found.py * scale + box.top - frame.top) + "px";
  ring.style.display = "block";
}
plot.addEventListener("mousemove", show);
plot.addEventListener("click", show);
plot.addEventListener("mouseleave", () => { tip.hidden = true; ring.style.display = "none"; });
