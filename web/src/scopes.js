// scopes.js: what was charged to each scope, a row a name.  The page leaves it out where the program entered none.

const SCOPE_COLUMNS = [
  { title: "Live", show: bytes, hint: "Held now, or at last, by what was allocated in it" },
  { title: "Retained", show: bytes, hint: "Of that, in entries that have ended" },
  { title: "Calls", show: count, hint: "Entries that have ended" },
  { title: "Open", show: count, hint: "Entries that have not" },
  { title: "Peak p50", show: bytes, hint: "The most that an entry held: half of the calls held less; within 4.5 %" },
  { title: "p95", show: bytes, hint: "95 of 100 calls held less; within 4.5 %" },
  { title: "p99", show: bytes, hint: "99 of 100 calls held less; within 4.5 %" },
  { title: "Max", show: bytes, hint: "The most that any entry held" },
  { title: "Allocated", show: bytes, hint: "By all entries, in all" },
  { title: "Time", show: seconds, hint: "All entries together" },
];

function drawScopes(rows, all) {
  const section = byId("scopes");
  section.hidden = rows.length === 0;
  if (section.hidden) return;
  byId("scopes-note").textContent = all > rows.length ? `the first ${count(rows.length)} of ${count(all)}` : "";
  section.querySelector("thead tr").replaceChildren(
    make("th", { scope: "col", class: "where" }, "Scope"),
    ...SCOPE_COLUMNS.map(({ title, hint }) => make("th", { scope: "col", class: "number", title: hint }, title)),
  );
  section.querySelector("tbody").replaceChildren(
    ...rows.map(([name, ...figures]) => {
      const text = name === null ? "(unknown scope)" : printable(name);
      return make("tr", {},
        make("th", { scope: "row", class: "name", title: shorten(text, 400) }, shorten(text, 200)),
        ...SCOPE_COLUMNS.map(({ show }, i) => make("td", { class: "number" }, figures[i] === null ? "–" : show(figures[i]))),
      );
    }),
  );
}
