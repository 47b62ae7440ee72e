"use strict";
function openTarget() {
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (!target) return;
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  target.scrollIntoView();
}

function sortBy(header) {
  const table = header.closest("table");
  const column = Array.from(header.parentNode.children).indexOf(header);
  const down = header.getAttribute("aria-sort") !== "descending";
  // A number as it is written: groups of thousands, a true minus sign, an interval beneath it.
  const number = text => text.match(/^[+\u2212-]?[\d.\u202f]+/)?.[0].replace(/[\u202f+]/g, "").replace("\u2212", "-") ?? "";
  const key = row => {
    const cell = row.children[column];
    return cell.dataset.key ?? (cell.classList.contains("t") ? cell.textContent : number(cell.textContent.trim()));
  };
  const missing = value => value === "" ? 1 : 0;
  const order = (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (missing(x) || missing(y)) return missing(x) - missing(y);
    const byValue = isNaN(x) || isNaN(y) ? x.localeCompare(y) : Number(x) - Number(y);
    return down ? -byValue : byValue;
  };
  for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  table.tBodies[0].append(...Array.from(table.tBodies[0].rows).sort(order));
}

function makeSortable(header) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...header.childNodes);
  button.addEventListener("click", () => sortBy(header));
  header.append(button);
}

// What is wider than its frame can be scrolled by keys, says so, and shows where there is more.
function markOverflow(frame) {
  const wide = frame.scrollWidth > frame.clientWidth + 1;
  const named = frame.querySelector("img")?.alt ?? frame.closest("section, details")?.querySelector("h2, summary")?.textContent;
  frame.classList.toggle("wide-inside", wide);
  frame.classList.toggle("more", wide && frame.scrollLeft + frame.clientWidth < frame.scrollWidth - 1);
  for (const [name, value] of [["tabindex", "0"], ["role", "region"], ["aria-label", "Scrolls sideways: " + (named ?? "table").trim()]]) {
    if (wide) frame.setAttribute(name, value);
    else frame.removeAttribute(name);
  }
}

// A figure alone, larger than the page has room for. Esc, the button, or another click closes it.
const ENLARGED = 1.6;  // times the size that it was drawn in
function showEnlarged(image) {
  const viewer = document.createElement("dialog"), close = document.createElement("button"), copy = image.cloneNode();
  viewer.setAttribute("aria-label", image.alt);
  close.textContent = "close";
  copy.classList.remove("enlarges");
  copy.style.cssText = "width:" + Math.round(ENLARGED * image.naturalWidth) + "px;max-width:none;height:auto";
  for (const one of [close, copy]) one.addEventListener("click", () => viewer.close());
  viewer.addEventListener("close", () => viewer.remove());
  viewer.append(close, copy);
  document.body.append(viewer);
  viewer.showModal();
}

function makeEnlargeable(figure) {
  const image = figure.querySelector("img"), button = document.createElement("button");
  button.type = "button";
  button.className = "enlarge";
  button.textContent = "enlarge";
  button.setAttribute("aria-label", "Enlarge: " + image.alt);
  button.addEventListener("click", () => showEnlarged(image));
  image.classList.add("enlarges");
  image.addEventListener("click", () => showEnlarged(image));
  const caption = figure.querySelector("figcaption") ?? figure.insertBefore(document.createElement("figcaption"), figure.firstChild);
  caption.append(" ", button);
}

document.querySelectorAll("figure").forEach(makeEnlargeable);
document.querySelectorAll("table.sortable th").forEach(makeSortable);
for (const button of document.querySelectorAll("button[data-group]")) {
  button.addEventListener("click", () => {
    const runs = Array.from(document.querySelectorAll("#" + button.dataset.group + " details"));
    const open = runs.some(run => !run.open);
    for (const run of runs) run.open = open;
  });
}
const sizes = new ResizeObserver(entries => entries.forEach(entry => markOverflow(entry.target)));
for (const frame of document.querySelectorAll(".scroll")) {
  markOverflow(frame);
  frame.addEventListener("scroll", () => markOverflow(frame), { passive: true });
  sizes.observe(frame);
}
addEventListener("hashchange", openTarget);
openTarget();
