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

  /** Sums of `weights` (by node, what was allocated right there) over each node and all below it. */
  totals(weights) {
    const out = Float64Array.from(weights);
    const { parent } = this;
    for (let i = this.count - 1; i > 0; i--) out[parent[i]] += out[i];
    return out;
  }

  /** This tree with lines of one function merged: a tree of its own, and the node of it for each node here. */
  byFunction() {
    const { parent, code, count } = this;
    const map = new Uint32Array(count);
    const parents = [0];
    const codes = [-1];
    const seen = new Map();
    // Code objects that share name and file are one function to a reader, as lambdas and re-made functions are not apart.
    const alike = new Map();
    const canonical = new Int32Array(this.codes.count);
    for (let i = 0; i < this.codes.count; i++) {
      const key = this.codes.name[i] * 4294967296 + this.codes.file[i];
      if (!alike.has(key)) alike.set(key, i);
      canonical[i] = alike.get(key);
    }
    for (let i = 1; i < count; i++) {
      if (i <= this.roots.length) {
        map[i] = parents.length;
        parents.push(0);
        codes.push(-1);
        continue;
      }
      const same = code[i] < 0 ? -1 : canonical[code[i]];
      const key = map[parent[i]] * 4294967296 + same + 1;
      let merged = seen.get(key);
      if (merged === undefined) {
        merged = parents.length;
        seen.set(key, merged);
        parents.push(map[parent[i]]);
        codes.push(same);
      }
      map[i] = merged;
    }
    const tree = new Tree({
      parent: Uint32Array.from(parents),
      code: Int32Array.from(codes),
      line: new Uint32Array(parents.length),
      codes: this.codes,
      strings: this.strings,
      mainFolder: this.mainFolder,
      roots: this.roots,
    });
    return { tree, map };
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
