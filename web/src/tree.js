// tree.js: stacks as a tree in typed arrays.  A parent's index is always smaller than its children's, so that one pass
// from the back sums a whole tree, and one pass from the front places it.

const SHADES = 4;

class Tree {
  constructor({ parent, code, line, codes, strings, mainFolder, roots }) {
    Object.assign(this, { parent, code, line, codes, strings, mainFolder, roots });
    this.count = parent.length;
    this.depth = new Uint32Array(this.count);
    for (let i = 1; i < this.count; i++) this.depth[i] = this.depth[parent[i]] + 1;
  }

  name(node) {
    if (node === VIRTUAL_ROOT) return "everything";
    const code = this.code[node];
    if (code < 0) return this.roots[node - 1] ?? "(unknown function)";
    return this.strings[this.codes.name[code]] || "(unknown function)";
  }

  file(node) {
    const code = this.code[node];
    return code < 0 ? "" : this.strings[this.codes.file[code]];
  }

  /** `file:line`, short enough to read. */
  place(node) {
    const file = this.file(node);
    if (file === "") return "";
    const line = this.line[node];
    return shortPath(file, this.mainFolder) + (line > 0 ? `:${line}` : "");
  }

  fullPlace(node) {
    const file = this.file(node);
    if (file === "") return "";
    const line = this.line[node];
    return file + (line > 0 ? `:${line}` : "");
  }

  kind(node) {
    const code = this.code[node];
    return code < 0 ? KIND.ROOT : this.codes.kind[code];
  }

  native(node) {
    const code = this.code[node];
    return code >= 0 && this.codes.native[code] === 1;
  }

  shade(node) {
    const code = this.code[node];
    return code < 0 ? 0 : this.codes.shade[code];
  }

  /** Innermost first, roots included, the page's own root left out. */
  stack(node) {
    const out = [];
    for (let at = node; at !== VIRTUAL_ROOT; at = this.parent[at]) out.push(at);
    return out;
  }

  /** By node: the innermost frame of the reader's own code at or above it; where there is none, its root. */
  nearestOwn() {
    if (!this.own) {
      this.own = new Uint32Array(this.count);
      for (let i = 1; i < this.count; i++) {
        const above = this.parent[i];
        this.own[i] = above === VIRTUAL_ROOT || this.kind(i) === KIND.OWN ? i : this.own[above];
      }
    }
    return this.own;
  }

  /** Sums of `weights` (by node, what was allocated right there) over each node and all below it. */
  totals(weights) {
    const out = Float64Array.from(weights);
    const { parent } = this;
    for (let i = this.count - 1; i > 0; i--) out[parent[i]] += out[i];
    return out;
  }

  /** This tree with lines of one function merged, or with the steps of importing left out (what they hold is then their
   * importer's): a tree of its own, and the node of it for each node here. */
  derive({ mergeLines, hideImports }) {
    const { parent, code, line, count, codes } = this;
    const map = new Uint32Array(count);
    const parents = [VIRTUAL_ROOT];
    const frames = [-1];
    const lines = [0];
    const seen = new Map();
    const place = this.places(mergeLines);
    for (let i = 1; i < count; i++) {
      const above = map[parent[i]];
      if (hideImports && code[i] >= 0 && codes.hidden[code[i]]) {
        map[i] = above;
        continue;
      }
      const key = above * 4294967296 + place[i];
      let merged = i <= this.roots.length ? undefined : seen.get(key);
      if (merged === undefined) {
        merged = parents.length;
        seen.set(key, merged);
        parents.push(above);
        frames.push(code[i]);
        lines.push(mergeLines ? 0 : line[i]);
      }
      map[i] = merged;
    }
    const tree = new Tree({
      parent: Uint32Array.from(parents),
      code: Int32Array.from(frames),
      line: Uint32Array.from(lines),
      codes,
      strings: this.strings,
      mainFolder: this.mainFolder,
      roots: this.roots,
    });
    return { tree, map };
  }

  /** By node a number that frames share where they are the same to a reader: code objects of one name and file are, as
   * lambdas and functions that were made again cannot be told apart. */
  places(mergeLines) {
    const { codes, code, line } = this;
    const alike = new Map();
    const functions = new Uint32Array(codes.count);
    for (let i = 0; i < codes.count; i++) {
      const key = codes.name[i] * 4294967296 + codes.file[i];
      if (!alike.has(key)) alike.set(key, alike.size + 1);
      functions[i] = alike.get(key);
    }
    const known = new Map();
    return Uint32Array.from(code, (id, node) => {
      const named = id < 0 ? 0 : functions[id];
      if (mergeLines) return named;
      const key = named * 4294967296 + line[node];
      let place = known.get(key);
      if (place === undefined) known.set(key, (place = known.size + 1));
      return place;
    });
  }
}

/** Left to right, heaviest first, by a ranking that stays while weights move, so that nothing jumps as time is turned. */
function rankNodes(first, second) {
  const order = new Uint32Array(first.length);
  for (let i = 0; i < order.length; i++) order[i] = i;
  // Equal nodes stay in order of index: a parent, never lighter than its child, always comes before it.
  return order.sort((a, b) => first[b] - first[a] || second[b] - second[a] || a - b);
}

function placeNodes(tree, totals, order) {
  const left = new Float64Array(tree.count);
  const cursor = new Float64Array(tree.count);
  const { parent } = tree;
  for (let i = 0; i < order.length; i++) {
    const node = order[i];
    if (node === VIRTUAL_ROOT || totals[node] <= 0) continue;
    const above = parent[node];
    left[node] = cursor[above];
    cursor[node] = left[node];
    cursor[above] += totals[node];
  }
  return left;
}
