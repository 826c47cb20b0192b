// table.js: the books as rows, gathered by line, function, file or stack; sortable, and only what is in view is drawn.

const ROW_HEIGHT = 44;

const COLUMNS = [
  { key: "peak", title: "Peak", show: bytes },
  { key: "end", title: "End", show: bytes },
  { key: "time", title: "At time", show: bytes },
  { key: "allocated", title: "Allocated", show: bytes },
  { key: "allocations", title: "Allocations", show: shortCount },
  { key: "temporaries", title: "Temporary", show: shortCount },
  { key: "peakBlocks", title: "Blocks at peak", show: shortCount },
];

/** The node that stands for site's row, and a key that rows of one kind share. */
const GROUPINGS = {
  line: (tree, node) => [node, tree.code[node] < 0 ? `r${node}` : `${tree.file(node)}\n${tree.line[node]}\n${tree.name(node)}`],
  own: (tree, node) => GROUPINGS.line(tree, tree.nearestOwn()[node]),
  function: (tree, node) => [node, tree.code[node] < 0 ? `r${node}` : `${tree.file(node)}\n${tree.name(node)}`],
  file: (tree, node) => [node, tree.code[node] < 0 ? `r${node}` : tree.file(node)],
  stack: (tree, node) => [node, `n${node}`],
};

class Table {
  /** `on.select(row)`, `on.open(row)`; a row: {node, site (the heaviest), sums…}. */
  constructor(host, { books, on }) {
    this.host = host;
    this.books = books;
    this.on = on;
    this.grid = host.querySelector("table");
    this.head = this.grid.tHead.rows[0];
    this.body = this.grid.tBodies[0];
    this.grouping = "line";
    this.sortKey = null; // null: by what the weighting shows
    this.ascending = false;
    this.active = 0;
    this.rows = [];
    this.nodeKeys = new Map();
    this.buildHead();
    host.addEventListener("scroll", () => this.drawRows(), { passive: true });
    new ResizeObserver(() => this.drawRows()).observe(host);
    this.grid.addEventListener("keydown", (event) => this.key(event));
    this.body.addEventListener("click", (event) => {
      const row = event.target.closest("tr[data-row]");
      if (!row) return;
      this.activate(Number(row.dataset.row));
    });
    this.body.addEventListener("dblclick", () => this.rows[this.active] && this.on.open(this.rows[this.active]));
  }

  buildHead() {
    const header = (key, title, css) => {
      const button = make("button", { type: "button" }, title);
      button.addEventListener("click", () => this.sortBy(key));
      return make("th", { scope: "col", class: css, "data-key": key }, button);
    };
    this.head.replaceChildren(
      header("name", "Where", "where"),
      header("weight", "Share", "share"),
      ...COLUMNS.map(({ key, title }) => header(key, title, `number column-${key}`)),
    );
  }

  sortBy(key) {
    if (this.sortKey === key) this.ascending = !this.ascending;
    else {
      this.sortKey = key;
      this.ascending = key === "name";
    }
    this.sort();
    this.host.scrollTop = 0;
    this.drawRows();
    say(`sorted by ${key}, ${this.ascending ? "smallest" : "largest"} first`);
  }

  /** Group of each site, worked out once for each grouping. */
  groups(grouping) {
    if (this.nodeKeys.has(grouping)) return this.nodeKeys.get(grouping);
    const { tree, sites } = this.books;
    const keyOf = GROUPINGS[grouping];
    const ids = new Map();
    const nodes = [];
    const byNode = new Int32Array(tree.count).fill(-1);
    const group = new Uint32Array(sites.count);
    for (let i = 0; i < sites.count; i++) {
      const node = sites.node[i];
      if (byNode[node] < 0) {
        const [shown, key] = keyOf(tree, node);
        if (!ids.has(key)) {
          ids.set(key, nodes.length);
          nodes.push(shown);
        }
        byNode[node] = ids.get(key);
      }
      group[i] = byNode[node];
    }
    const out = { group, nodes };
    this.nodeKeys.set(grouping, out);
    return out;
  }

  /** `metrics`: {name: values by site}; `weight`: those the shares are of; `include(site)`; `matches` by node or null. */
  update({ metrics, weight, include, matches, weightName, timeLabel }) {
    const { group, nodes } = this.groups(this.grouping);
    const { sites, tree } = this.books;
    const rows = nodes.map((node) => ({ node, site: -1, weight: 0, most: -1, stacks: 0, found: matches === null }));
    const names = COLUMNS.map((column) => column.key).filter((key) => metrics[key]);
    for (const row of rows) for (const key of names) row[key] = 0;
    let total = 0;
    for (let i = 0; i < sites.count; i++) {
      if (!include(i)) continue;
      const row = rows[group[i]];
      for (const key of names) row[key] += metrics[key][i];
      row.weight += weight[i];
      total += weight[i];
      row.stacks++;
      if (weight[i] > row.most) {
        row.most = weight[i];
        row.site = i;
      }
      if (!row.found && matches[this.grouping === "stack" ? sites.node[i] : row.node]) row.found = true;
    }
    this.total = total;
    this.largest = rows.reduce((most, row) => Math.max(most, row.weight), 0);
    this.rows = rows.filter((row) => row.found && row.stacks > 0);
    for (const row of this.rows) row.name = this.title(row.node) + tree.place(row.node);
    this.weightName = weightName;
    for (const cell of this.head.cells) {
      cell.classList.toggle("current", cell.dataset.key === weightName);
      if (cell.dataset.key === "time") {
        cell.hidden = !metrics.time;
        cell.firstChild.textContent = timeLabel || "At time";
      }
    }
    this.hasTime = Boolean(metrics.time);
    this.active = 0;
    this.sort();
    this.host.scrollTop = 0;
    this.drawRows();
  }

  /** The line of the reader's own code that led there, by the heaviest stack. */
  via(row) {
    const { tree, sites } = this.books;
    if (row.site < 0 || tree.kind(row.node) === KIND.OWN || this.grouping === "file") return "";
    const own = tree.nearestOwn()[sites.node[row.site]];
    return tree.kind(own) === KIND.OWN ? `← ${shorten(tree.place(own), 120)}` : "";
  }

  title(node) {
    const { tree } = this.books;
    if (this.grouping === "file") return tree.code[node] < 0 ? tree.name(node) : tree.file(node);
    return tree.name(node);
  }

  place(node) {
    const { tree } = this.books;
    if (tree.code[node] < 0 || this.grouping === "file") return "";
    return this.grouping === "function" ? shortPath(tree.file(node), tree.mainFolder) : tree.place(node);
  }

  sort() {
    const key = this.sortKey ?? "weight";
    const sign = this.ascending ? 1 : -1;
    if (key === "name") this.rows.sort((a, b) => sign * (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
    else this.rows.sort((a, b) => sign * (a[key] - b[key]) || b.peak - a.peak);
    for (const cell of this.head.cells) {
      const sorted = cell.dataset.key === key;
      cell.setAttribute("aria-sort", sorted ? (this.ascending ? "ascending" : "descending") : "none");
    }
  }

  drawRows() {
    if (this.host.clientHeight === 0) return;
    const first = Math.max(0, Math.floor(this.host.scrollTop / ROW_HEIGHT) - 4);
    const last = Math.min(this.rows.length, first + Math.ceil(this.host.clientHeight / ROW_HEIGHT) + 8);
    const blank = (rows) => {
      const cell = make("td");
      cell.style.height = `${rows * ROW_HEIGHT}px`;
      return make("tr", { "aria-hidden": "true", class: "blank" }, cell);
    };
    const out = [blank(first)];
    for (let i = first; i < last; i++) out.push(this.drawRow(i));
    out.push(blank(this.rows.length - last));
    this.grid.setAttribute("aria-rowcount", String(this.rows.length + 1));
    byId("table-empty").hidden = this.rows.length > 0;
    this.body.replaceChildren(...out);
    this.markActive();
  }

  drawRow(index) {
    const { tree } = this.books;
    const row = this.rows[index];
    const bar = make("span", { class: "bar" }); // beside the largest; the figure above it says the share
    bar.style.width = `${this.largest > 0 ? (100 * row.weight) / this.largest : 0}%`;
    const title = shorten(this.title(row.node), 240);
    const place = shorten(this.place(row.node), 240);
    const via = this.via(row);
    const many = row.stacks > 1 ? `${count(row.stacks)} stacks` : "";
    const where = make(
      "th",
      { scope: "row", class: "where" },
      make("span", { class: `dot ${KIND_CSS[tree.kind(row.node)]}`, "aria-hidden": "true" }),
      make("span", { class: "name", title: shorten(tree.fullPlace(row.node) || title, 400) }, title, nativeMark(tree, row.node)),
      make("span", { class: "place" }, ...placeParts(place, via, many)),
    );
    const cells = COLUMNS.map(({ key, show }) => {
      const css = `number column-${key}${key === this.weightName ? " current" : ""}`;
      return make("td", { class: css, hidden: key === "time" && !this.hasTime }, row[key] === undefined ? "" : show(row[key]));
    });
    const shareCell = make("td", { class: "share" }, make("span", { class: "share-text" }, percent(row.weight, this.total)), bar);
    return make(
      "tr",
      { "data-row": index, id: `row-${index}`, "aria-rowindex": index + 2, "aria-selected": index === this.active },
      where,
      shareCell,
      ...cells,
    );
  }

  markActive() {
    for (const row of this.body.rows) {
      if (row.dataset.row !== undefined) row.setAttribute("aria-selected", String(Number(row.dataset.row) === this.active));
    }
    this.grid.setAttribute("aria-activedescendant", `row-${this.active}`);
  }

  activate(index) {
    if (index < 0 || index >= this.rows.length) return;
    this.active = index;
    const head = this.head.getBoundingClientRect().height;
    const top = index * ROW_HEIGHT;
    if (top < this.host.scrollTop) this.host.scrollTop = top;
    else if (top + ROW_HEIGHT + head > this.host.scrollTop + this.host.clientHeight) {
      this.host.scrollTop = top + ROW_HEIGHT + head - this.host.clientHeight;
    }
    this.drawRows();
    this.on.select(this.rows[index]);
  }

  key(event) {
    if (event.target !== this.grid || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(this.host.clientHeight / ROW_HEIGHT) - 2);
    const to = {
      ArrowUp: this.active - 1, ArrowDown: this.active + 1,
      PageUp: this.active - page, PageDown: this.active + page, Home: 0, End: this.rows.length - 1,
    }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      this.activate(Math.min(this.rows.length - 1, Math.max(0, to)));
    } else if (event.key === "Enter" && this.rows[this.active]) {
      event.preventDefault();
      this.on.open(this.rows[this.active]);
    }
  }
}

/** In a narrow column the file and the rest are cut, and the line number is not. */
function placeParts(place, via, many) {
  const [, file, line] = /^(.*?)(:\d+)?$/s.exec(place);
  const rest = [place && via ? ` ${via}` : via, many].filter(Boolean).join(" · ");
  return [
    make("span", { class: "file" }, file),
    make("span", { class: "line" }, line ?? ""),
    make("span", { class: "rest" }, place && !via && many ? ` · ${rest}` : rest),
  ];
}

const KIND_CSS = ["own", "library", "standard", "root"];
