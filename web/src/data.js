// data.js: the embedded books, unpacked.  html.c packs them and draws the format; both sides must agree.
//
// A column is base64 over LEB128 numbers; `signed` ones are zigzag-coded, `delta` ones hold the difference to the one
// before.  Numbers stay below 2^53, as bytes and counts do.

const VIRTUAL_ROOT = 0; // the page's node 0: "all"; the ledger's node n is the page's n + 1
const KIND = { OWN: 0, LIBRARY: 1, STANDARD: 2, ROOT: 3 };

class Column {
  constructor(text) {
    this.raw = atob(text || "");
    this.at = 0;
  }

  next() {
    const { raw } = this;
    let byte = raw.charCodeAt(this.at++);
    if (byte < 128) return byte;
    let value = byte & 127;
    let scale = 128;
    do {
      byte = raw.charCodeAt(this.at++);
      value += (byte & 127) * scale;
      scale *= 128;
    } while (byte >= 128);
    return value;
  }

  nextSigned() {
    const value = this.next();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }
}

function unpack(text, length, { signed = false, delta = false, into = Float64Array } = {}) {
  const out = new into(length);
  if (text === "") return out; // nothing but zeros
  const column = new Column(text);
  let last = 0;
  for (let i = 0; i < length; i++) {
    const value = signed ? column.nextSigned() : column.next();
    last = delta ? last + value : value;
    out[i] = last;
  }
  return out;
}

const PACKAGES = /[\\/](site|dist)-packages[\\/]/;
const STANDARD = /^<frozen |[\\/]lib[\\/]python\d+\.\d+[\\/]/;
const TYPED_IN = /^<(stdin|ipython-input.*|console)>$/;
const IMPORT_STEPS = /^<frozen importlib\._bootstrap/; // Python leaves them out of its tracebacks too

/** Whose code a file is: what is neither installed nor Python's own is the reader's. */
function kindOf(file, mainFile) {
  if (file === mainFile && file !== "" && !PACKAGES.test(file) && !STANDARD.test(file)) return KIND.OWN;
  if (PACKAGES.test(file)) return KIND.LIBRARY;
  if (STANDARD.test(file) || file === "") return KIND.STANDARD;
  if (file === "<string>") return mainFile === "" ? KIND.OWN : KIND.LIBRARY; // python -c, or made by a library
  if (file.startsWith("<")) return TYPED_IN.test(file) ? KIND.OWN : KIND.LIBRARY;
  return /\.(pyx|pxd|pxi|pyd|so)$/.test(file) ? KIND.LIBRARY : KIND.OWN;
}

/** The part of a path that tells one file from another: below site-packages, the library, or the program's folder. */
function shortPath(file, mainFolder) {
  const packages = /^.*[\\/](?:site|dist)-packages[\\/](.+)$/.exec(file);
  if (packages) return packages[1];
  if (mainFolder !== "" && file.startsWith(mainFolder)) return file.slice(mainFolder.length);
  const standard = /^.*[\\/]lib[\\/]python\d+\.\d+[\\/](.+)$/.exec(file);
  return standard ? standard[1] : file;
}

function folderOf(file) {
  const cut = Math.max(file.lastIndexOf("/"), file.lastIndexOf("\\"));
  return cut < 0 ? "" : file.slice(0, cut + 1);
}

/** Everything the page knows.  Throws where the data is not what html.c writes. */
function openBooks(text) {
  const raw = JSON.parse(text);
  if (raw.schema !== 1) throw new Error(`data of schema ${raw.schema}, and this page reads 1`);
  const strings = raw.strings.map(printable);
  const mainFile = printable(raw.facts.main_file || "");
  const mainFolder = folderOf(mainFile);

  const codeCount = raw.codes.count;
  const codes = {
    count: codeCount,
    name: unpack(raw.codes.name, codeCount, { into: Uint32Array }),
    file: unpack(raw.codes.file, codeCount, { into: Uint32Array }),
    native: unpack(raw.codes.native, codeCount, { into: Uint8Array }),
    kind: new Uint8Array(codeCount),
    shade: new Uint8Array(codeCount),
    hidden: new Uint8Array(codeCount), // may be left out of the flamegraph
  };
  for (let i = 0; i < codeCount; i++) {
    const file = strings[codes.file[i]];
    codes.kind[i] = codes.native[i] ? KIND.LIBRARY : kindOf(file, mainFile); // C's is never the reader's own line
    codes.hidden[i] = IMPORT_STEPS.test(file) ? 1 : 0;
    const unit = codes.kind[i] === KIND.OWN ? file : shortPath(file, mainFolder).split(/[\\/]/)[0];
    let hash = 7;
    for (let k = 0; k < unit.length && k < 200; k++) hash = (hash * 31 + unit.charCodeAt(k)) >>> 0;
    codes.shade[i] = hash % SHADES;
  }

  const siteCount = raw.sites.count;
  const column = (name, options) => unpack(raw.sites[name], siteCount, options);
  const sites = {
    count: siteCount,
    node: column("node", { signed: true, delta: true, into: Uint32Array }),
    domain: column("domain", { into: Uint8Array }),
    type: column("type", { into: Uint32Array }),
    peak: column("peak"),
    peakBlocks: column("peak_blocks"),
    last: column("last"),
    lastBlocks: column("last_blocks"),
    end: column("end", { signed: true }),
    endBlocks: column("end_blocks", { signed: true }),
    allocated: column("alloc_bytes"),
    allocations: column("allocs"),
    temporaries: column("temporaries"),
  };
  for (let i = 0; i < siteCount; i++) {
    sites.node[i] += 1;
    sites.end[i] += sites.last[i]; // kept as the difference to the last state, mostly 0
    sites.endBlocks[i] += sites.lastBlocks[i];
  }

  const tickCount = raw.ticks.count;
  const ticks = {
    count: tickCount,
    time: unpack(raw.ticks.time_us, tickCount, { delta: true }),
    live: raw.ticks.live.map((text) => unpack(text, tickCount)),
    high: unpack(raw.ticks.high, tickCount),
  };
  for (let i = 0; i < tickCount; i++) ticks.time[i] /= 1e6;

  return {
    facts: raw.facts,
    scopes: raw.scopes,
    allScopes: raw.all_scopes,
    strings,
    mainFolder,
    codes,
    sites,
    ticks,
    tree: openTree(raw.nodes, codes, strings, mainFolder, raw.roots),
    rewind: new Rewind(raw.undo, sites),
  };
}

function openTree(raw, codes, strings, mainFolder, roots) {
  const count = raw.count + 1;
  const parent = new Uint32Array(count);
  const code = new Int32Array(count).fill(-1);
  const line = new Uint32Array(count);
  line.set(unpack(raw.line, raw.count, { into: Uint32Array }), 1);
  const back = unpack(raw.parent, raw.count, { into: Uint32Array });
  const shift = unpack(raw.code, raw.count, { into: Uint32Array });
  for (let i = 1; i < count; i++) {
    parent[i] = back[i - 1] === 0 ? VIRTUAL_ROOT : i - back[i - 1]; // a ledger's root hangs under the page's own
    code[i] = shift[i - 1] - 1; // -1: a root, or a frame without code
  }
  return new Tree({ parent, code, line, codes, strings, mainFolder, roots });
}

/** The state of every site at a tick, by the journal's undo records as differences, applied one way or the other. */
class Rewind {
  constructor(raw, sites) {
    this.sites = sites;
    this.stops = unpack(raw.ticks, raw.stops, { delta: true, into: Uint32Array }); // ticks that can be gone back to
    this.packed = raw.steps;
    this.steps = null; // unpacked on first use: most readers never turn the clock
    this.position = this.stops.length; // stops.length: the last state
    this.bytes = null;
    this.blocks = null;
  }

  open() {
    if (this.steps) return;
    const column = new Column(this.packed);
    const starts = new Uint32Array(this.stops.length + 1);
    const site = [];
    const bytes = [];
    const blocks = [];
    for (let step = 0; step < this.stops.length; step++) {
      starts[step] = site.length;
      let id = 0;
      for (let left = column.next(); left > 0; left--) {
        id += column.next();
        site.push(id);
        bytes.push(column.nextSigned());
        blocks.push(column.nextSigned());
      }
    }
    starts[this.stops.length] = site.length;
    this.steps = { starts, site: Uint32Array.from(site), bytes: Float64Array.from(bytes), blocks: Float64Array.from(blocks) };
    this.packed = null;
    this.bytes = Float64Array.from(this.sites.last);
    this.blocks = Float64Array.from(this.sites.lastBlocks);
  }

  /** The stop nearest to a tick: the journal may have been thinned to keep this page small. */
  stopNear(tick) {
    const { stops } = this;
    let low = 0;
    let high = stops.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (stops[middle] < tick) low = middle + 1;
      else high = middle;
    }
    if (low === stops.length) return Math.max(0, low - 1);
    if (low > 0 && tick - stops[low - 1] < stops[low] - tick) return low - 1;
    return low;
  }

  /** Moves this.bytes and this.blocks to a stop.  Step k, counted from the newest, leads from stop n - k to n - k - 1. */
  seek(stop) {
    this.open();
    const { starts, site, bytes, blocks } = this.steps;
    const apply = (step, sign) => {
      for (let i = starts[step]; i < starts[step + 1]; i++) {
        this.bytes[site[i]] += sign * bytes[i];
        this.blocks[site[i]] += sign * blocks[i];
      }
    };
    const all = this.stops.length;
    while (this.position > stop) {
      apply(all - this.position, 1);
      this.position--;
    }
    while (this.position < stop) {
      this.position++;
      apply(all - this.position, -1);
    }
  }
}
