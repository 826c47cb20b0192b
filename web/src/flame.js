// flame.js: the flamegraph, root on top, on one canvas the size of what can be seen.  Beside it a tree item for screen
// readers says what the keyboard is at.

const ROW = 20;
const MIN_TEXT = 34; // pixels of a frame before it is worth a word
const MIN_FRAME = 0.4; // pixels; what is narrower is not drawn
const FONT = 12;
const ZOOM_MS = 170;
const LEAST_ROWS = 12;
const SPLINTER = 0.005; // of the whole: what is less does not make the flamegraph higher

class Flame {
  /** `on`: {select(node), hover(node, x, y), zoom(node)}; `describe(node)` is the text a screen reader gets. */
  constructor(host, { on, describe }) {
    this.host = host;
    this.on = on;
    this.describe = describe;
    this.canvas = host.querySelector("canvas");
    this.spacer = host.querySelector(".flame-spacer");
    this.item = host.querySelector("[role=treeitem]");
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.tree = null;
    this.zoomed = VIRTUAL_ROOT;
    this.selected = VIRTUAL_ROOT;
    this.hovered = -1;
    this.matches = null;
    this.window = [0, 1];
    this.animation = 0;
    this.frameRequest = 0;
    this.rows = 0;
    this.listen();
    new ResizeObserver(() => this.resize()).observe(host);
  }

  /** Another tree (lines or functions).  The nodes kept are the caller's to translate. */
  setTree(tree, order) {
    this.tree = tree;
    this.order = order;
    this.zoomed = VIRTUAL_ROOT;
    this.selected = VIRTUAL_ROOT;
    this.hovered = -1;
    this.matches = null;
  }

  setValues(totals, self, order) {
    this.totals = totals;
    this.self = self;
    this.order = order;
    this.left = placeNodes(this.tree, totals, order);
    let deepest = 0; // of all frames, and of those that are more than a splinter
    let body = 0;
    const { depth } = this.tree;
    const splinter = totals[VIRTUAL_ROOT] * SPLINTER;
    for (let i = 1; i < totals.length; i++) {
      if (totals[i] > 0 && depth[i] > deepest) deepest = depth[i];
      if (totals[i] > splinter && depth[i] > body) body = depth[i];
    }
    while (this.zoomed !== VIRTUAL_ROOT && totals[this.zoomed] <= 0) this.zoomed = this.tree.parent[this.zoomed];
    while (this.selected !== VIRTUAL_ROOT && totals[this.selected] <= 0) this.selected = this.tree.parent[this.selected];
    this.spacer.style.height = `${(deepest + 1) * ROW + 4}px`;
    // As high as it needs, up to what the style sheet allows; never lower again, so that nothing below it jumps.
    this.rows = Math.max(this.rows, body + 3, LEAST_ROWS);
    this.host.style.height = `${this.rows * ROW}px`;
    this.window = this.windowOf(this.zoomed);
    this.announce();
    this.redraw();
  }

  setMatches(matches) {
    this.matches = matches;
    this.redraw();
  }

  windowOf(node) {
    const width = this.totals[node];
    return [this.left[node], this.left[node] + (width > 0 ? width : 1)];
  }

  zoom(node, { animate = true } = {}) {
    if (this.totals[node] <= 0) return;
    this.zoomed = node;
    const from = this.window;
    const to = this.windowOf(node);
    cancelAnimationFrame(this.animation);
    const still = !animate || matchMedia("(prefers-reduced-motion: reduce)").matches;
    const began = performance.now();
    const step = (now) => {
      const part = still ? 1 : Math.min(1, Math.max(0, (now - began) / ZOOM_MS));
      const eased = 1 - (1 - part) ** 3;
      this.window = part >= 1 ? to : [from[0] + (to[0] - from[0]) * eased, from[1] + (to[1] - from[1]) * eased];
      this.draw();
      if (part < 1) this.animation = requestAnimationFrame(step);
    };
    if (still) step(began);
    else this.animation = requestAnimationFrame(step);
    this.reveal(node);
    this.on.zoom(node);
  }

  select(node) {
    this.selected = node;
    this.announce();
    this.reveal(node);
    this.redraw();
    this.on.select(node);
  }

  /** Scrolls just as far as it takes to see the node and a few rows around it. */
  reveal(node) {
    const top = this.tree.depth[node] * ROW;
    const view = this.host.clientHeight;
    if (top < this.host.scrollTop + ROW) this.host.scrollTop = Math.max(0, top - 3 * ROW);
    else if (top + 3 * ROW > this.host.scrollTop + view) this.host.scrollTop = top + 4 * ROW - view;
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const width = this.host.clientWidth;
    const height = this.host.clientHeight;
    if (width === 0 || height === 0) return;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
    this.canvas.style.marginBottom = `${-height}px`; // it lies over the spacer that gives the scroll bar its length
    this.width = width;
    this.height = height;
    this.ratio = ratio;
    if (this.totals) this.draw();
  }

  redraw() {
    if (this.frameRequest) return;
    this.frameRequest = requestAnimationFrame(() => {
      this.frameRequest = 0;
      this.draw();
    });
  }

  /** The colours of the theme, from the style sheet, so that light and dark have one home. */
  readPalette() {
    const style = getComputedStyle(document.documentElement);
    const read = (name) => style.getPropertyValue(name).trim();
    this.palette = {
      background: read("--panel"),
      text: read("--frame-text"),
      faded: read("--frame-text-faded"),
      match: read("--match"),
      matchText: read("--match-text"),
      ring: read("--ring"),
      dim: read("--frame-dim"),
      dimText: read("--frame-dim-text"),
      font: `${FONT}px ${read("--mono")}`,
      kinds: ["own", "library", "standard", "root"].map((kind) =>
        Array.from({ length: SHADES }, (_, shade) => read(`--${kind}-${shade}`)),
      ),
    };
    this.context.font = this.palette.font;
    this.charWidth = this.context.measureText("m").width;
    if (this.totals) this.redraw();
  }

  draw() {
    const { context: pen, tree, totals, left, palette } = this;
    if (!this.width || !totals || !palette) return;
    const [from, to] = this.window;
    const scale = this.width / (to - from);
    const scroll = this.host.scrollTop;
    const firstRow = Math.max(0, Math.floor(scroll / ROW));
    const lastRow = Math.ceil((scroll + this.height) / ROW);
    pen.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    pen.fillStyle = palette.background;
    pen.fillRect(0, 0, this.width, this.height);
    pen.font = palette.font;
    pen.textBaseline = "middle";
    const { depth } = tree;
    const zoomDepth = depth[this.zoomed];
    const smallest = MIN_FRAME / scale;
    for (let i = 0; i < totals.length; i++) {
      const row = depth[i];
      const value = totals[i];
      if (row < firstRow || row > lastRow || value < smallest || left[i] >= to || left[i] + value <= from) continue;
      const x0 = Math.max(0, (left[i] - from) * scale);
      const x1 = Math.min(this.width, (left[i] + value - from) * scale);
      this.drawFrame(i, x0, x1 - x0, row * ROW - scroll, row < zoomDepth);
    }
    this.drawRing(this.selected, from, to, scale, scroll);
  }

  drawFrame(node, x, width, y, above) {
    const { context: pen, palette, tree } = this;
    const searching = this.matches !== null;
    const matched = searching && this.matches[node] === 1;
    if (matched) pen.fillStyle = palette.match;
    else if (searching && node !== VIRTUAL_ROOT) pen.fillStyle = palette.dim;
    else pen.fillStyle = palette.kinds[tree.kind(node)][tree.shade(node)];
    const gap = width > 3 ? 1 : 0;
    pen.globalAlpha = above && !matched ? 0.45 : node === this.hovered ? 0.82 : 1;
    pen.fillRect(x, y, width - gap, ROW - 1);
    pen.globalAlpha = 1;
    if (width < MIN_TEXT) return;
    pen.fillStyle = matched ? palette.matchText : searching ? palette.dimText : above ? palette.faded : palette.text;
    this.drawText(node, x + 5, width - 10, y + ROW / 2);
  }

  drawText(node, x, room, y) {
    const { context: pen, tree } = this;
    const fits = Math.floor(room / this.charWidth);
    if (fits < 2) return;
    const name = node === VIRTUAL_ROOT ? this.rootText() : this.label(node, fits);
    if (name.length > fits) {
      pen.fillText(`${name.slice(0, fits - 1)}…`, x, y, room);
      return;
    }
    pen.fillText(name, x, y, room);
    const place = name === tree.name(node) && fits > name.length + 4 ? fitPlace(tree.place(node), fits - name.length - 2) : "";
    if (place === "") return;
    const after = pen.measureText(name).width + 2 * this.charWidth;
    pen.globalAlpha = 0.62;
    pen.fillText(place, x + after, y, room - after);
    pen.globalAlpha = 1;
  }

  /** A module's own frame goes by its file: a hundred of them called <module> say nothing. */
  label(node, room) {
    const name = this.tree.name(node);
    if (name !== "<module>") return name;
    const place = this.tree.place(node);
    return fitPlace(place, room) || place.slice(place.lastIndexOf("/") + 1) || name;
  }

  rootText() {
    return this.title || "everything";
  }

  drawRing(node, from, to, scale, scroll) {
    if (node === VIRTUAL_ROOT && document.activeElement !== this.host) return;
    const x0 = Math.max(0, (this.left[node] - from) * scale);
    const x1 = Math.min(this.width, (this.left[node] + this.totals[node] - from) * scale);
    if (x1 <= 0 || x0 >= this.width) return;
    const { context: pen } = this;
    pen.strokeStyle = this.palette.ring;
    pen.lineWidth = 2;
    pen.strokeRect(x0 + 1, this.tree.depth[node] * ROW - scroll + 1, Math.max(2, x1 - x0 - 3), ROW - 3);
  }

  nodeAt(x, y) {
    if (!this.totals) return -1;
    const row = Math.floor((y + this.host.scrollTop) / ROW);
    const [from, to] = this.window;
    const at = from + (x / this.width) * (to - from);
    const { depth } = this.tree;
    for (let i = 0; i < this.totals.length; i++) {
      if (depth[i] === row && this.left[i] <= at && at < this.left[i] + this.totals[i]) return i;
    }
    return -1;
  }

  listen() {
    const { host } = this;
    const locate = (event) => {
      const box = this.canvas.getBoundingClientRect();
      return this.nodeAt(event.clientX - box.left, event.clientY - box.top);
    };
    host.addEventListener("scroll", () => this.redraw(), { passive: true });
    host.addEventListener("pointermove", (event) => {
      if (event.pointerType === "touch") return;
      const node = locate(event);
      if (node !== this.hovered) {
        this.hovered = node;
        this.redraw();
      }
      this.on.hover(node, event.clientX, event.clientY);
    });
    host.addEventListener("pointerleave", () => {
      this.hovered = -1;
      this.on.hover(-1, 0, 0);
      this.redraw();
    });
    host.addEventListener("click", (event) => {
      const node = locate(event);
      if (node < 0) return;
      this.select(node);
      this.zoom(node);
    });
    host.addEventListener("focus", () => this.redraw());
    host.addEventListener("blur", () => this.redraw());
    host.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.totals) return;
    const { tree, zoomed } = this;
    const moves = {
      ArrowUp: () => this.select(tree.parent[this.selected]),
      ArrowDown: () => this.select(this.heaviestChild(this.selected)),
      ArrowLeft: () => this.select(this.sibling(-1)),
      ArrowRight: () => this.select(this.sibling(1)),
      Home: () => this.select(zoomed),
      Enter: () => this.zoom(this.selected),
      " ": () => this.zoom(this.selected),
      Escape: () => this.zoom(zoomed === VIRTUAL_ROOT ? VIRTUAL_ROOT : tree.parent[zoomed]),
      Backspace: () => this.zoom(tree.parent[zoomed]),
      0: () => this.zoom(VIRTUAL_ROOT),
    };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    move();
    if (event.key.startsWith("Arrow") && !this.inWindow(this.selected)) this.zoom(this.selected);
  }

  inWindow(node) {
    const [from, to] = this.windowOf(this.zoomed);
    return this.left[node] < to && this.left[node] + this.totals[node] > from;
  }

  heaviestChild(node) {
    let best = node;
    let most = 0;
    const { parent } = this.tree;
    for (let i = node + 1; i < parent.length; i++) {
      if (parent[i] === node && this.totals[i] > most) {
        most = this.totals[i];
        best = i;
      }
    }
    return best;
  }

  /** The frame beside this one in its row, whoever its parent is, as the eye sees it. */
  sibling(direction) {
    const { depth } = this.tree;
    const here = this.selected;
    let best = here;
    let distance = Infinity;
    for (let i = 1; i < depth.length; i++) {
      if (depth[i] !== depth[here] || this.totals[i] <= 0) continue;
      const away = (this.left[i] - this.left[here]) * direction;
      if (away > 0 && away < distance) {
        distance = away;
        best = i;
      }
    }
    return best;
  }

  announce() {
    const { item, tree, selected } = this;
    item.setAttribute("aria-level", String(tree.depth[selected] + 1));
    item.setAttribute("aria-selected", "true");
    item.textContent = this.describe(selected);
  }
}

/** As much of `package/module.py:12` as fits and still says something: all of it, `module.py:12`, or nothing. */
function fitPlace(place, room) {
  if (place.length <= room) return place;
  const file = place.slice(place.lastIndexOf("/") + 1);
  return file.length <= room ? file : "";
}
