"use strict";
function openTarget() {
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (!target) return;
  if (target.tagName === "DETAILS") target.open = true;
  target.scrollIntoView();
}

function sortBy(header) {
  const table = header.closest("table");
  const column = Array.from(header.parentNode.children).indexOf(header);
  const down = header.getAttribute("aria-sort") !== "descending";
  const key = row => row.children[column].dataset.key ?? row.children[column].textContent;
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

for (const header of document.querySelectorAll("table.sortable th")) header.addEventListener("click", () => sortBy(header));
for (const button of document.querySelectorAll("button[data-group]")) {
  button.addEventListener("click", () => {
    const runs = Array.from(document.querySelectorAll("#" + button.dataset.group + " details"));
    const open = runs.some(run => !run.open);
    for (const run of runs) run.open = open;
  });
}
addEventListener("hashchange", openTarget);
openTarget();
