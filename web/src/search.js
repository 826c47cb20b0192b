// search.js: words that must all be found in `function file`, case aside; "quoted words" may hold spaces, and a word
// that ends in :123 also asks for that line.

function parseQuery(text) {
  const words = [];
  for (const [, quoted, plain] of text.matchAll(/"([^"]*)"?|(\S+)/g)) {
    const word = (quoted ?? plain).toLowerCase();
    if (word === "") continue;
    const line = /^(.+):(\d+)$/.exec(word);
    words.push({ text: word, before: line ? line[1] : null, line: line ? Number(line[2]) : 0 });
  }
  return words;
}

class Search {
  constructor(books) {
    const { codes, strings } = books;
    this.books = books;
    this.texts = Array.from(
      { length: codes.count },
      (_, i) => `${strings[codes.name[i]]} ${strings[codes.file[i]]}`.toLowerCase(),
    );
  }

  /** By node of `tree`: 1 where all words are found.  Null for an empty query. */
  nodes(tree, query) {
    const words = parseQuery(query);
    if (words.length === 0) return null;
    const plain = new Uint8Array(this.texts.length); // 1: all words in the text; 2: some need the line too
    const { texts } = this;
    for (let i = 0; i < texts.length; i++) plain[i] = judge(texts[i], words);
    const roots = tree.roots.map((root) => (words.every((word) => root.toLowerCase().includes(word.text)) ? 1 : 0));
    const out = new Uint8Array(tree.count);
    for (let i = 1; i < tree.count; i++) {
      const code = tree.code[i];
      if (code < 0) out[i] = roots[i - 1] ?? 0;
      else if (plain[code] === 1) out[i] = 1;
      else if (plain[code] === 2) out[i] = words.every((word) => wordIn(texts[code], word, tree.line[i])) ? 1 : 0;
    }
    return out;
  }
}

function judge(text, words) {
  let verdict = 1;
  for (const word of words) {
    if (text.includes(word.text)) continue;
    if (word.before === null || !text.endsWith(word.before)) return 0;
    verdict = 2;
  }
  return verdict;
}

function wordIn(text, word, line) {
  return text.includes(word.text) || (word.before !== null && text.endsWith(word.before) && word.line === line);
}

/** What the found frames hold together, each byte counted once however many found frames are in its stack. */
function foundTotal(tree, matches, totals) {
  const covered = new Uint8Array(tree.count);
  let total = 0;
  let frames = 0;
  for (let i = 1; i < tree.count; i++) {
    const above = covered[tree.parent[i]];
    if (matches[i] && totals[i] > 0) {
      frames++;
      if (!above) total += totals[i];
    }
    covered[i] = above || matches[i];
  }
  return { total, frames };
}
