// details.js: what is known of the selected frame, and its stack, to read and to copy.

const STACK_SHOWN = 200; // of a recursion of thousands the ends are enough; the copy has all of it

function stackText(tree, node) {
  return tree
    .stack(node)
    .map((frame) => {
      const place = tree.fullPlace(frame);
      return place === "" ? tree.name(frame) : `${tree.name(frame)} (${place})`;
    })
    .join("\n");
}

/** Beside the name of a frame of C or C++. */
function nativeMark(tree, node) {
  return tree.native(node) ? make("span", { class: "native" }, " native") : "";
}

function drawStack(list, tree, node) {
  const frames = tree.stack(node);
  const shown = frames.length <= STACK_SHOWN ? frames : [...frames.slice(0, STACK_SHOWN - 20), null, ...frames.slice(-20)];
  list.replaceChildren(
    ...shown.map((frame) => {
      if (frame === null) {
        return make("li", { class: "gap" }, `… ${count(frames.length - STACK_SHOWN)} frames more …`);
      }
      const place = tree.place(frame);
      return make(
        "li",
        { class: KIND_CSS[tree.kind(frame)] },
        make("span", { class: "name" }, shorten(tree.name(frame), 300), nativeMark(tree, frame)),
        place === "" ? "" : make("span", { class: "place", title: shorten(tree.fullPlace(frame), 400) }, shorten(place, 300)),
      );
    }),
  );
}

/** `facts`: [[label, value]…] */
function drawFacts(list, facts) {
  list.replaceChildren(...facts.map(([label, value]) => make("div", {}, make("dt", {}, label), make("dd", {}, value))));
}
