// main.js: the page's state and what follows from it.  Views are told what to show; they never ask.

const WEIGHTS = {
  peak: { name: "at peak", unit: bytes, blocks: "peakBlocks" },
  end: { name: "at the end", unit: bytes, blocks: "endBlocks" },
  time: { name: "at the chosen time", unit: bytes, blocks: "timeBlocks" },
  allocated: { name: "allocated in all", unit: bytes, blocks: null },
  temporaries: { name: "temporary allocations", unit: shortCount, blocks: null },
};

class Page {
  constructor(books) {
    this.books = books;
    this.weight = "peak";
    this.domains = new Set(books.facts.domains.keys());
    this.grouping = "line"; // of the flamegraph: line or function
    this.hideImports = true;
    this.view = "flame";
    this.point = -1;
    this.row = null; // the table's selected row, while the table is shown
    this.search = new Search(books);
    this.trees = {}; // by what is merged and left out
    this.points = this.timePoints();
    this.flame = new Flame(byId("flame"), {
      on: {
        select: (node) => this.showDetails(node),
        hover: (node, x, y) => this.hover(node, x, y),
        zoom: (node) => this.zoomed(node),
      },
      describe: (node) => this.describe(node),
    });
    this.table = new Table(byId("table"), {
      books,
      on: { select: (row) => this.selectRow(row), open: (row) => this.openRow(row) },
    });
    this.drawFacts();
    this.drawControls();
    byId("imports").hidden = !books.codes.hidden.includes(1);
    this.setTheme(readStored("bursar-theme"));
    this.useTree();
    this.update();
    this.drawTimeline();
    this.listen();
  }

  // ---- what is shown ----

  timePoints() {
    const { ticks, sites, facts, rewind } = this.books;
    const stops = new Set(rewind.stops);
    const byDomain = (values) => {
      const out = facts.domains.map(() => 0);
      for (let i = 0; i < sites.count; i++) out[sites.domain[i]] += values[i];
      return out;
    };
    const points = [];
    for (let i = 0; i < ticks.count; i++) {
      const known = stops.has(i) || i === facts.end_tick;
      points.push({ time: ticks.time[i], live: ticks.live.map((column) => column[i]), high: ticks.high[i], tick: i, known });
    }
    points.push({ time: facts.peak_time_s, live: byDomain(sites.peak), high: 0, tick: TICK_PEAK, known: true });
    const ran = Math.max(facts.run_s, facts.peak_time_s);
    points.push({ time: ran, live: byDomain(sites.last), high: 0, tick: TICK_LAST, known: true });
    const rank = (point) => (point.tick === TICK_LAST ? 2 : point.tick === TICK_PEAK ? 1 : 0);
    return points.sort((a, b) => a.time - b.time || rank(a) - rank(b) || a.tick - b.tick);
  }

  pointOf(weight) {
    const { points } = this;
    if (weight === "peak") return points.findIndex((point) => point.tick === TICK_PEAK);
    if (weight === "end") {
      const { end_tick: tick } = this.books.facts;
      return points.findIndex((point) => point.tick === (tick === null ? TICK_LAST : tick));
    }
    return this.point;
  }

  /** The tree that the flamegraph shows, where sites are in it, and the books' nodes in it. */
  get current() {
    const key = `${this.grouping} ${this.hideImports}`;
    this.trees[key] ??= this.deriveTree();
    return this.trees[key];
  }

  deriveTree() {
    const { tree, sites, codes } = this.books;
    const hideImports = this.hideImports && codes.hidden.includes(1);
    if (this.grouping === "line" && !hideImports) return { tree, siteNode: sites.node, map: null, orders: {} };
    const derived = tree.derive({ mergeLines: this.grouping === "function", hideImports });
    return { ...derived, siteNode: Uint32Array.from(sites.node, (node) => derived.map[node]), orders: {} };
  }

  /** A node of the books in the tree shown. */
  shownNode(node) {
    const { map } = this.current;
    return map === null ? node : map[node];
  }

  siteValues(name) {
    const { sites, rewind } = this.books;
    if (name === "time") return rewind.bytes;
    if (name === "timeBlocks") return rewind.blocks;
    return sites[name];
  }

  included(site) {
    return this.domains.has(this.books.sites.domain[site]);
  }

  /** Totals by node of the tree shown, and what was allocated in the node itself; kept until something moves. */
  sums(name) {
    if (!this.cache.has(name)) {
      const { tree, siteNode } = this.current;
      const values = this.siteValues(name);
      const self = new Float64Array(tree.count);
      for (let i = 0; i < values.length; i++) if (this.included(i)) self[siteNode[i]] += values[i];
      this.cache.set(name, { self, totals: tree.totals(self) });
    }
    return this.cache.get(name);
  }

  useTree() {
    this.flame.setTree(this.current.tree);
    this.cache = new Map();
  }

  /** One order for all that is live, so that frames stay where they are while time is turned. */
  order() {
    const { tree, siteNode, orders } = this.current;
    const key = this.weight === "allocated" || this.weight === "temporaries" ? this.weight : "live";
    if (!orders[key]) {
      const { sites } = this.books;
      const sumOf = (values) => {
        const self = new Float64Array(tree.count);
        for (let i = 0; i < values.length; i++) self[siteNode[i]] += values[i];
        return tree.totals(self);
      };
      const first = sumOf(key === "live" ? sites.peak : sites[key]);
      orders[key] = rankNodes(first, key === "allocated" ? first : sumOf(sites.allocated));
    }
    return orders[key];
  }

  update() {
    this.cache.clear();
    const { self, totals } = this.sums(this.weight);
    const { tree } = this.current;
    this.matches = this.search.nodes(tree, byId("search").value);
    const { unit, name } = WEIGHTS[this.weight];
    this.flame.title = `${unit(totals[VIRTUAL_ROOT])} ${this.weightText(name)}`;
    this.flame.setValues(totals, self, this.order());
    this.flame.setMatches(this.matches);
    byId("flame-empty").hidden = totals[VIRTUAL_ROOT] > 0;
    this.zoomed(this.flame.zoomed);
    this.drawFound();
    for (const button of document.querySelectorAll("[data-weight]")) {
      button.setAttribute("aria-pressed", String(button.dataset.weight === this.weight));
    }
    byId("time-button").textContent = this.point >= 0 ? `At ${seconds(this.points[this.point].time)}` : "At a time";
    if (this.timeline && this.pointOf(this.weight) >= 0) this.timeline.show(this.pointOf(this.weight));
    this.drawDomains();
    if (this.view === "table") this.updateTable();
    if (this.row === null) this.showDetails(this.flame.selected);
  }

  weightText(name) {
    return this.weight === "time" ? `live at ${seconds(this.points[this.point].time)}` : name;
  }

  updateTable() {
    const { sites, rewind, tree } = this.books;
    const metrics = {
      peak: sites.peak, end: sites.end, allocated: sites.allocated, allocations: sites.allocations,
      temporaries: sites.temporaries, peakBlocks: sites.peakBlocks,
    };
    if (this.point >= 0) metrics.time = rewind.bytes;
    this.row = null;
    this.table.update({
      metrics,
      weight: this.siteValues(this.weight),
      weightName: this.weight,
      include: (site) => this.included(site),
      matches: this.search.nodes(tree, byId("search").value),
      timeLabel: this.point >= 0 ? `At ${seconds(this.points[this.point].time)}` : "",
    });
    byId("table-count").textContent = `${count(this.table.rows.length)} rows`;
  }

  // ---- what a person does ----

  setWeight(weight) {
    if (weight === "time" && this.point < 0) {
      const peak = this.points[this.pointOf("peak")].time;
      const others = this.points.filter((point) => point.known && point.tick !== TICK_PEAK);
      others.sort((a, b) => Math.abs(a.time - peak) - Math.abs(b.time - peak));
      this.pick(this.points.indexOf(others[0]));
      byId("timeline").focus();
      return;
    }
    this.weight = weight;
    this.update();
    say(`weighted ${this.weightText(WEIGHTS[weight].name)}: ${this.flame.title}`);
  }

  pick(index) {
    const point = this.points[index];
    const { rewind, facts } = this.books;
    if (point.tick === TICK_PEAK) this.weight = "peak";
    else if (point.tick === facts.end_tick || (facts.end_tick === null && point.tick === TICK_LAST)) this.weight = "end";
    else {
      this.weight = "time";
      const stop = point.tick === TICK_LAST ? rewind.stops.length : rewind.stopNear(point.tick);
      // Where the history was thinned, the nearest instant that is known, and no other, is what is shown.
      const tick = stop < rewind.stops.length ? rewind.stops[stop] : TICK_LAST;
      this.point = this.points.findIndex((other) => other.tick === tick);
      rewind.seek(stop);
    }
    this.update();
  }

  setView(view, focus) {
    this.view = view;
    for (const tab of document.querySelectorAll("[role=tab]")) {
      const chosen = tab.dataset.view === view;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
      if (chosen && focus) tab.focus();
      byId(tab.getAttribute("aria-controls")).hidden = !chosen;
    }
    byId("flame-options").hidden = view !== "flame";
    byId("table-options").hidden = view !== "table";
    this.row = null;
    if (view === "table") this.updateTable();
    else {
      this.flame.resize();
      this.showDetails(this.flame.selected);
    }
  }

  setImports(hide) {
    this.hideImports = hide;
    byId("imports").setAttribute("aria-pressed", String(!hide));
    this.useTree();
    this.update();
  }

  setGrouping(grouping) {
    this.grouping = grouping;
    this.useTree();
    for (const button of document.querySelectorAll("[data-grouping]")) {
      button.setAttribute("aria-pressed", String(button.dataset.grouping === grouping));
    }
    this.update();
  }

  toggleDomain(domain) {
    if (this.domains.has(domain) && this.domains.size > 1) this.domains.delete(domain);
    else this.domains.add(domain);
    this.update();
  }

  selectRow(row) {
    this.row = row;
    const { tree, sites } = this.books;
    const node = this.table.grouping === "stack" || row.site < 0 ? row.node : sites.node[row.site];
    this.stackNode = node;
    const facts = COLUMNS.filter(({ key }) => row[key] !== undefined).map(({ key, title, show }) => [
      key === "time" ? `At ${seconds(this.points[this.point].time)}` : title,
      show(row[key]),
    ]);
    this.fillDetails(tree, row.node, this.table.title(row.node), facts);
    byId("stack-title").textContent = row.stacks > 1 ? `Heaviest of ${count(row.stacks)} stacks` : "Stack";
    drawStack(byId("stack"), tree, node);
    this.stackTree = tree;
  }

  /** A row as the flamegraph shows it: its stack, or all frames of its line, function or file. */
  openRow(row) {
    const { tree, sites } = this.books;
    const field = byId("search");
    if (this.table.grouping === "stack") field.value = "";
    else if (tree.code[row.node] >= 0) {
      const file = tree.file(row.node).replaceAll('"', "");
      field.value = this.table.grouping === "function" ? `"${tree.name(row.node)} ${file}"`
        : this.table.grouping === "file" ? `"${file}"` : `"${file}:${tree.line[row.node]}"`;
    }
    if (this.grouping !== "line") this.setGrouping("line");
    const code = tree.code[row.node];
    if (this.hideImports && code >= 0 && this.books.codes.hidden[code]) this.setImports(false);
    this.setView("flame", false);
    this.update();
    this.flame.host.focus();
    const target = this.shownNode(row.site >= 0 ? sites.node[row.site] : row.node);
    if (this.flame.totals[target] > 0) {
      this.flame.zoom(VIRTUAL_ROOT, { animate: false });
      this.flame.select(target);
      if (this.table.grouping === "stack") this.flame.zoom(target);
    }
  }

  // ---- words and figures ----

  zoomed(node) {
    const button = byId("reset");
    button.hidden = node === VIRTUAL_ROOT;
  }

  drawFound() {
    const { tree } = this.current;
    const field = byId("found");
    if (this.matches === null) {
      field.textContent = "";
      return;
    }
    const { totals } = this.sums(this.weight);
    const { total, frames } = foundTotal(tree, this.matches, totals);
    field.textContent = frames === 0 ? "nothing found"
      : `${count(frames)} ${frames === 1 ? "frame" : "frames"}, ${WEIGHTS[this.weight].unit(total)} (${percent(total, totals[VIRTUAL_ROOT])})`;
  }

  describe(node) {
    const { tree } = this.current;
    const { unit, name } = WEIGHTS[this.weight];
    const { totals } = this.flame;
    const place = tree.place(node);
    return `${shorten(tree.name(node), 120)}${place ? `, ${shorten(place, 160)}` : ""}, ` +
      `${unit(totals[node])} ${this.weightText(name)}, ${percent(totals[node], totals[VIRTUAL_ROOT])}`;
  }

  nodeFacts(node) {
    const { unit, blocks, name } = WEIGHTS[this.weight];
    const { totals, self } = this.sums(this.weight);
    const facts = [
      [capital(this.weightText(name)), `${unit(totals[node])} · ${percent(totals[node], totals[VIRTUAL_ROOT])}`],
      ["In this line itself", unit(self[node])],
    ];
    if (this.grouping === "function" || node === VIRTUAL_ROOT) facts[1][0] = "In this function itself";
    if (node === VIRTUAL_ROOT) facts.pop();
    if (blocks) facts.push(["Blocks", count(this.sums(blocks).totals[node])]);
    return facts;
  }

  showDetails(node) {
    if (!this.cache) return;
    const { tree } = this.current;
    const facts = this.nodeFacts(node);
    for (const [key, label, show] of [
      ["peak", "At peak", bytes], ["end", "At the end", bytes], ["allocated", "Allocated in all", bytes],
      ["allocations", "Allocations", count], ["temporaries", "Temporary", count],
    ]) {
      if (key !== this.weight) facts.push([label, show(this.sums(key).totals[node])]);
    }
    this.stackNode = node;
    this.stackTree = tree;
    this.fillDetails(tree, node, tree.name(node), facts);
    byId("stack-title").textContent = "Stack";
    drawStack(byId("stack"), tree, node);
  }

  fillDetails(tree, node, title, facts) {
    const everything = node === VIRTUAL_ROOT;
    byId("details-name").textContent = shorten(everything ? "Everything" : title, 400);
    byId("details-place").textContent = everything ? "Choose a frame or a row to see its stack." : shorten(tree.fullPlace(node), 600);
    byId("details-kind").textContent = everything ? "" : KIND_NAMES[tree.kind(node)];
    byId("details-kind").className = `kind ${everything ? "" : KIND_CSS[tree.kind(node)]}`;
    drawFacts(byId("details-facts"), facts);
    byId("stack-part").hidden = everything;
  }

  hover(node, x, y) {
    const tip = byId("tip");
    if (node < 0) {
      tip.hidden = true;
      return;
    }
    const { tree } = this.current;
    const facts = this.nodeFacts(node);
    facts.push(["Allocations", count(this.sums("allocations").totals[node])]);
    if (this.flame.zoomed !== VIRTUAL_ROOT) {
      facts.splice(1, 0, ["Of what is zoomed", percent(this.flame.totals[node], this.flame.totals[this.flame.zoomed])]);
    }
    const list = make("dl", { class: "facts" });
    drawFacts(list, facts);
    tip.replaceChildren(
      make("strong", {}, shorten(node === VIRTUAL_ROOT ? "Everything" : tree.name(node), 160)),
      make("span", { class: "place" }, shorten(tree.fullPlace(node), 240)),
      list,
    );
    placeTip(tip, x, y);
  }

  drawFacts() {
    const { facts } = this.books;
    document.title = `${shorten(printable(facts.program), 60)} · memory · bursar`;
    byId("program").textContent = shorten(printable(facts.program), 120);
    byId("program").title = shorten(printable(facts.main_file || facts.program), 400);
    byId("peak").textContent = bytes(facts.peak_bytes) + give(facts.peak_stderr);
    byId("peak-time").textContent = `after ${seconds(facts.peak_time_s)} of ${seconds(facts.run_s)}`;
    byId("end").textContent = bytes(facts.live_bytes) + give(facts.live_stderr);
    byId("end-note").textContent = facts.peak_bytes > 0 ? `${percent(facts.live_bytes, facts.peak_bytes)} of the peak` : "";
    byId("allocated").textContent = facts.allocated_bytes === null ? "not known" : bytes(facts.allocated_bytes);
    byId("allocated-note").textContent =
      facts.allocations === null ? "" : `in ${shortCount(facts.allocations)} allocations`;
    const temporary = facts.temporary_allocations;
    byId("temporary").textContent = temporary === null ? "not known" : shortCount(temporary);
    byId("temporary-note").textContent =
      temporary === null ? `mode ${facts.mode} does not tell` : `${percent(temporary, facts.allocations)} of allocations`;
    byId("notes").replaceChildren(...facts.notes.map((note) => make("li", {}, printable(note))));
    byId("notes").hidden = facts.notes.length === 0;
    byId("remarks").textContent = remarks(facts).join(" ");
    byId("remarks").hidden = byId("remarks").textContent === "";
    drawFactsList(facts);
    drawScopes(this.books.scopes, this.books.allScopes);
  }

  drawDomains() {
    const { facts } = this.books;
    const shown = facts.domains.map(() => 0);
    const values = this.siteValues(this.weight);
    const { sites } = this.books;
    for (let i = 0; i < sites.count; i++) shown[sites.domain[i]] += values[i];
    facts.domains.forEach((name, domain) => {
      const button = byId(`domain-${domain}`);
      button.setAttribute("aria-pressed", String(this.domains.has(domain)));
      button.querySelector(".amount").textContent = WEIGHTS[this.weight].unit(shown[domain]);
    });
  }

  drawControls() {
    byId("domains").replaceChildren(
      ...this.books.facts.domains.map((name, domain) => {
        const button = make(
          "button",
          { type: "button", id: `domain-${domain}`, class: "chip", "aria-pressed": "true", title: `show or leave out ${name}` },
          make("span", { class: `swatch domain-${domain}`, "aria-hidden": "true" }),
          name,
          make("span", { class: "amount" }),
        );
        button.addEventListener("click", () => this.toggleDomain(domain));
        return button;
      }),
    );
  }

  drawTimeline() {
    const { facts } = this.books;
    this.timeline = new Timeline(byId("timeline"), {
      points: this.points,
      peak: { time: facts.peak_time_s, bytes: facts.peak_bytes },
      domains: facts.domains,
      on: { pick: (index) => this.pick(index), hover: (point, x, y) => this.hoverTime(point, x, y) },
    });
    this.timeline.show(this.pointOf("peak"));
  }

  hoverTime(point, x, y) {
    const tip = byId("tip");
    if (point === null) {
      tip.hidden = true;
      return;
    }
    const list = make("dl", { class: "facts" });
    const facts = this.books.facts.domains.map((name, domain) => [name, bytes(point.live[domain])]);
    if (point.high > 1.005 * sum(point.live)) facts.push(["Most since the point before", bytes(point.high)]);
    drawFacts(list, facts);
    const title = point.tick === TICK_PEAK ? "peak, " : "";
    tip.replaceChildren(make("strong", {}, `${title}${seconds(point.time)}: ${bytes(sum(point.live))}`), list);
    placeTip(tip, x, y);
  }

  // ---- wiring ----

  listen() {
    for (const button of document.querySelectorAll("[data-weight]")) {
      button.addEventListener("click", () => this.setWeight(button.dataset.weight));
    }
    for (const button of document.querySelectorAll("[data-grouping]")) {
      button.addEventListener("click", () => this.setGrouping(button.dataset.grouping));
    }
    const tabs = [...document.querySelectorAll("[role=tab]")];
    for (const tab of tabs) {
      tab.addEventListener("click", () => this.setView(tab.dataset.view, false));
      tab.addEventListener("keydown", (event) => {
        if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
        this.setView(tabs[(tabs.indexOf(tab) + 1) % tabs.length].dataset.view, true);
      });
    }
    byId("table-grouping").addEventListener("change", (event) => {
      this.table.grouping = event.target.value;
      this.updateTable();
    });
    let pending = 0;
    byId("search").addEventListener("input", () => {
      clearTimeout(pending);
      pending = setTimeout(() => this.searched(), this.books.tree.count > 20000 ? 90 : 0);
    });
    byId("search").addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.target.value = "";
        this.searched();
      } else if (event.key === "Enter") {
        clearTimeout(pending);
        this.searched();
        this.firstFound();
      }
    });
    byId("imports").addEventListener("click", () => this.setImports(!this.hideImports));
    byId("reset").addEventListener("click", () => this.flame.zoom(VIRTUAL_ROOT));
    byId("theme").addEventListener("click", () => this.turnTheme());
    byId("copy").addEventListener("click", () => this.copyStack());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.repaint());
    document.addEventListener("keydown", (event) => this.key(event));
  }

  searched() {
    const { tree } = this.current;
    this.matches = this.search.nodes(tree, byId("search").value);
    this.flame.setMatches(this.matches);
    this.drawFound();
    if (this.view === "table") this.updateTable();
    say(byId("found").textContent);
  }

  /** Selects the heaviest frame found. */
  firstFound() {
    if (this.matches === null || this.view !== "flame") return;
    const { totals } = this.flame;
    let best = -1;
    for (let i = 1; i < totals.length; i++) {
      if (this.matches[i] && totals[i] > 0 && (best < 0 || totals[i] > totals[best])) best = i;
    }
    if (best < 0) return;
    this.flame.host.focus();
    this.flame.select(best);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
    if (typing) return;
    if (event.key === "/") {
      event.preventDefault();
      byId("search").focus();
    } else if (event.key === "c" && !byId("stack-part").hidden) this.copyStack();
    else if (event.key === "t") this.turnTheme();
  }

  async copyStack() {
    const done = await copyText(stackText(this.stackTree, this.stackNode));
    const button = byId("copy");
    button.textContent = done ? "Copied" : "Not copied";
    say(done ? "stack copied" : "the browser did not allow copying");
    setTimeout(() => (button.textContent = "Copy stack"), 1600);
  }

  isDark() {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  turnTheme() {
    const theme = this.isDark() ? "light" : "dark";
    this.setTheme(theme);
    writeStored("bursar-theme", theme);
  }

  setTheme(theme) {
    if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
    this.repaint();
  }

  repaint() {
    const name = this.isDark() ? "Light" : "Dark";
    byId("theme").textContent = name;
    byId("theme").setAttribute("aria-label", `${name} colours`);
    this.flame.readPalette();
    if (this.timeline) this.timeline.repaint();
  }
}

const KIND_NAMES = ["your code", "library", "standard library", "no code"];

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function placeTip(tip, x, y) {
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = x + 14 + box.width > innerWidth - 8 ? Math.max(8, x - box.width - 14) : x + 14;
  const top = y + 18 + box.height > innerHeight - 8 ? Math.max(8, y - box.height - 12) : y + 18;
  tip.style.left = `${left}px`;
  tip.style.top = `${top}px`;
}

function drawFactsList(facts) {
  const began = facts.started_unix_s > 0 ? new Date(facts.started_unix_s * 1000).toLocaleString() : "unknown";
  drawFacts(byId("ledger"), [
    ["Program", shorten(printable(facts.main_file || facts.program), 300)],
    ["Python", printable(facts.python || "none")],
    ["Mode", `${facts.mode}, ${facts.unit} bytes`],
    ["Began", began],
    ["Ran for", seconds(facts.run_s)],
    ["Books", facts.complete ? `complete (${facts.life})` : `not complete (${facts.life})`],
    ["Process", String(facts.pid)],
    ["Stacks", `${count(facts.sites)}, ${count(facts.folded_sites)} folded`],
    ["Unresolved frames", count(facts.unresolved_frames)],
    ["Stacks cut for depth", count(facts.deep_stacks)],
    ["Peak may be higher by", bytes(facts.peak_error_bytes)],
    ["Sums differ from totals by", bytes(facts.live_error_bytes)],
    ["Without a stack", `${bytes(facts.outside_bytes)} in ${count(facts.outside_allocations)} allocations`],
    ["Temporary means", temporaryMeans(facts.temporary_within)],
    ["Written by", `bursar ${printable(facts.bursar_version || "")}`],
  ]);
}

/** What was made coarser to keep the ledger small: no error, and good to know. */
function remarks(facts) {
  const out = [];
  if (facts.folded_sites > 0) {
    out.push(`To keep the ledger small, ${count(facts.folded_sites)} light stacks are charged to one of their callers.`);
  }
  if (facts.folded_scopes > 0) {
    out.push(`To keep the ledger small, ${count(facts.folded_scopes)} scopes or entries of scopes are counted by name, or together.`);
  }
  if (facts.history_lossy) out.push("The curve is exact; the stacks are known at the instants marked on it.");
  return out;
}

/** The standard error of an estimate. */
function give(error) {
  return error > 0 ? ` ± ${bytes(error)}` : "";
}

function temporaryMeans(within) {
  return within === 1 ? "freed before its thread allocates again" : `freed before its thread's next ${count(within)} allocations`;
}

function readStored(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null; // a browser that keeps nothing for files
  }
}

function writeStored(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // the choice then lasts as long as the page
  }
}

try {
  const data = byId("bursar-data");
  window.bursarPage = new Page(openBooks(data.textContent));
  data.remove();
  document.body.dataset.ready = "true";
} catch (error) {
  byId("failed").hidden = false;
  byId("failed").textContent = `This report cannot be shown: ${error.message}. Write it again with bursar report.`;
  throw error;
}
