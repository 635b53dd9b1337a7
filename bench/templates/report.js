// What the page does: which strategies it shows, what a point says, tables that sort, filter and copy, light and dark.
// Without it everything is there to read. Nothing leaves the page, and nothing but the choice of a theme is kept.
"use strict";

const root = document.documentElement;
const all = (selector, from = document) => [...from.querySelectorAll(selector)];
const make = (tag, properties) => Object.assign(document.createElement(tag), properties);

// --- strategies: a button for each; a click on a name in a figure does the same, a double click shows that one alone

const bar = document.getElementById("shown");
const buttons = bar ? all("[data-strategy]", bar) : [];
const names = new Set(buttons.map((button) => button.dataset.strategy));
const off = new Set();
const recounts = []; // of the tables

function show() {
  for (const button of buttons) button.ariaPressed = String(!off.has(button.dataset.strategy));
  for (const part of all("g[data-strategy], tr[data-strategy]")) part.classList.toggle("off", off.has(part.dataset.strategy));
  bar.querySelector("output").textContent = off.size ? `${names.size - off.size} of ${names.size} shown` : "";
  bar.classList.toggle("partly", off.size > 0);
  for (const recount of recounts) recount();
}

const named = (event) => {
  const name = event.target.closest("#shown [data-strategy], .label[data-strategy]")?.dataset.strategy;
  return names.has(name) ? name : undefined;
};

if (bar) {
  bar.hidden = false;
  root.classList.add("switches");
  document.addEventListener("click", (event) => {
    const name = named(event), every = event.target.closest("[data-all]")?.dataset.all;
    if (name !== undefined) off.delete(name) || off.add(name);
    if (every) for (const one of names) every === "on" ? off.delete(one) : off.add(one);
    if (name !== undefined || every) show();
  });
  document.addEventListener("dblclick", (event) => {
    const name = named(event);
    if (name === undefined) return;
    for (const one of names) one === name ? off.delete(one) : off.add(one);
    show();
  });
}

// --- points: what is under the pointer or nearest to it, or under a finger, says its numbers

const tip = document.body.appendChild(make("div", { className: "tip", hidden: true, ariaHidden: "true" }));
let told = null;

function distance(point, x, y) {
  const box = point.getBoundingClientRect();
  return Math.hypot(Math.max(box.left - x, 0, x - box.right), Math.max(box.top - y, 0, y - box.bottom));
}

function pointAt(event) {
  const direct = event.target.closest?.("[data-says]");
  const plate = event.target.closest?.(".plate");
  if (direct || !plate) return direct;
  let found = null, least = event.pointerType === "mouse" ? 10 : 24;
  for (const point of all("g:not(.off) use[data-says]", plate)) {
    const away = distance(point, event.clientX, event.clientY);
    if (away < least) [found, least] = [point, away];
  }
  return found;
}

function tell(point, x, y) {
  told?.classList.remove("told");
  told = point;
  tip.hidden = !point;
  if (!point) return;
  point.classList.add("told");
  tip.textContent = point.dataset.says;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 14, root.clientWidth - width - 4))}px`;
  tip.style.top = `${y + 18 + height < innerHeight ? y + 18 : Math.max(4, y - height - 12)}px`;
}

for (const kind of ["pointermove", "pointerdown"])
  document.addEventListener(kind, (event) => tell(pointAt(event), event.clientX, event.clientY));
root.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && tell(null));
document.addEventListener("scroll", () => tell(null), { passive: true, capture: true });
document.addEventListener("keydown", (event) => event.key === "Escape" && tell(null));

// --- tables

const sortable = (cell) => {
  const text = cell.dataset.sort ?? cell.textContent.trim();
  return text === "" || isNaN(text) ? text : Number(text);
};

function sort(table, column) {
  const headings = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const way = headings[column].ariaSort === "ascending" ? -1 : 1;
  for (const heading of headings) heading.ariaSort = "none";
  headings[column].ariaSort = way === 1 ? "ascending" : "descending";
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  const keyed = [...body.rows].map((row) => [sortable(row.cells[column]), row]);
  keyed.sort(([a], [b]) => (a === "" || b === "" ? (a === "") - (b === "") : way * compare(a, b))); // those without a value last
  body.append(...keyed.map(([, row]) => row));
}

// RFC 4180. Numbers are written in full; a range and the mark of a lower bound have columns of their own. What begins as
// a formula does, and is no number, gets an apostrophe: no spreadsheet calculates it.
function csv(table) {
  const rows = [...table.tBodies[0].rows].filter((row) => row.offsetParent !== null);
  const plain = (text) => (/^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text);
  const quote = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const spread = (cell) => cell.querySelector(".spread")?.textContent ?? "";
  const columns = [...table.tHead.rows[0].cells].flatMap((heading, at) => {
    const name = heading.textContent.trim();
    const parts = [[name, (cell) => cell.dataset.sort || cell.textContent.trim()]];
    if (rows.some((row) => spread(row.cells[at]))) parts.push([`${name} range`, spread]);
    if (rows.some((row) => row.cells[at].textContent.startsWith("≥")))
      parts.push([`${name} bound`, (cell) => (cell.textContent.startsWith("≥") ? "≥" : "")]);
    return parts.map(([title, text]) => [title, (row) => text(row.cells[at])]);
  });
  const written = [columns.map(([title]) => title), ...rows.map((row) => columns.map(([, text]) => text(row)))];
  return written.map((line) => line.map(plain).map(quote).join(",")).join("\r\n") + "\r\n";
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.body.appendChild(make("textarea", { value: text, className: "aside", readOnly: true }));
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

function save(text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  make("a", { href: url, download: "iobench.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

for (const table of all("table.sortable")) {
  const rows = [...table.tBodies[0].rows], label = table.parentElement.ariaLabel ?? "Table";
  const filter = make("input", { type: "search", placeholder: "Filter", ariaLabel: `Filter: ${label}` });
  const button = make("button", { type: "button", textContent: "Copy as CSV", ariaLabel: `Copy as CSV: ${label}` });
  const count = make("output", {}), tools = make("div", { className: "tools" });
  const recount = () => {
    const seen = rows.filter((row) => !row.hidden && !row.classList.contains("off")).length;
    count.textContent = seen === rows.length ? `${seen} rows` : `${seen} of ${rows.length} rows`;
    tools.classList.toggle("partly", seen < rows.length);
  };
  all("th button", table).forEach((heading, column) => heading.addEventListener("click", () => sort(table, column)));
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    recount();
  });
  button.addEventListener("click", async () => {
    const text = csv(table), copied = await copy(text);
    if (!copied) save(text);
    count.textContent = copied ? "Copied" : "Saved as iobench.csv";
  });
  tools.append(filter, button, count);
  table.parentElement.before(tools);
  recounts.push(recount);
  recount();
}

// --- light and dark: as the system has it, until the reader chooses the other one; that choice is kept

const system = matchMedia("(prefers-color-scheme: dark)");
const preferred = () => (system.matches ? "dark" : "light");
const shownTheme = () => root.dataset.theme ?? preferred();
const theme = make("button", { type: "button", className: "theme" });
const offer = () => (theme.textContent = shownTheme() === "dark" ? "Light theme" : "Dark theme");

function keep(choice) {
  try {
    if (choice) localStorage.setItem(KEPT, choice);
    else localStorage.removeItem(KEPT);
  } catch {} // where a page may keep nothing, the choice lasts as long as the page
}

theme.addEventListener("click", () => {
  const wanted = shownTheme() === "dark" ? "light" : "dark", choice = wanted === preferred() ? "" : wanted;
  if (choice) root.dataset.theme = choice;
  else delete root.dataset.theme;
  keep(choice);
  offer();
});
system.addEventListener("change", offer);
offer();
document.querySelector("header")?.append(theme);

// --- paper: what is folded is opened for it, but for what would fill dozens of pages

const unfolded = [];
addEventListener("beforeprint", () => {
  for (const one of all("details:not([open], .bulk)")) unfolded.push(Object.assign(one, { open: true }));
});
addEventListener("afterprint", () => {
  for (const one of unfolded.splice(0)) one.open = false;
});
