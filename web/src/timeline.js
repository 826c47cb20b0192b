// timeline.js: memory over time, drawn by uPlot; a slider that picks the instant the other views show.

class Timeline {
  /** `points`: [{time, live: [by domain], high, tick, known}] in order of time: at the known ones one can look at the sites;
   * `on.pick(index)`, `on.hover(point or null, x, y)`. */
  constructor(host, { points, peak, domains, on }) {
    this.host = host;
    this.points = points;
    this.peak = peak;
    this.domains = domains;
    this.on = on;
    this.picked = -1;
    this.build();
    this.listen();
    new ResizeObserver(() => this.fit()).observe(host);
  }

  colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  build() {
    const { points, domains } = this;
    const times = points.map((point) => point.time);
    const most = points.map((point) => Math.max(point.high, sum(point.live)));
    // What was held at a point is held until the next one says otherwise: a step, and no ramp.
    // Stacked from the top: the whole first, so that each later area covers the part that is its own.
    const areas = domains.map((_, top) => points.map((point) => sum(point.live.slice(0, domains.length - top))));
    const series = domains.map((domain, top) => ({
      stroke: () => this.colour(top === 0 ? "--line" : "--line-soft"),
      width: top === 0 ? 1.5 : 0.5,
      fill: () => this.colour(`--domain-${domains.length - 1 - top}`),
      points: { show: false },
      paths: uPlot.paths.stepped({ align: 1 }),
    }));
    // The most that was held between a point and the one before it, seen above the areas.
    const between = {
      stroke: () => this.colour("--muted"),
      width: 1,
      dash: [2, 3],
      points: { show: false },
      paths: uPlot.paths.stepped({ align: -1 }),
    };
    const axis = {
      stroke: () => this.colour("--muted"),
      grid: { stroke: () => this.colour("--rule"), width: 1 },
      ticks: { show: false },
      font: "11px system-ui, sans-serif",
    };
    this.plot = new uPlot(
      {
        width: Math.max(200, this.host.clientWidth),
        height: this.host.clientHeight || 132,
        legend: { show: false },
        cursor: { y: false, drag: { x: false, y: false, setScale: false }, points: { show: false } },
        padding: [14, 12, 0, 0],
        scales: {
          x: { time: false },
          y: { range: (plot, low, high) => [0, niceTop(high || 1)] },
        },
        axes: [
          { ...axis, size: 24, gap: 4, space: 70, values: (plot, splits) => splits.map((time) => axisTime(time, splits.at(-1))) },
          { ...axis, size: 62, gap: 6, space: 28, splits: () => byteSplits(this.plot), values: (p, s) => s.map(axisBytes) },
        ],
        series: [{}, between, ...series],
        hooks: { draw: [(plot) => this.drawMarks(plot)] },
      },
      [times, most, ...areas],
      this.host,
    );
    this.plot.root.setAttribute("aria-hidden", "true");
  }

  drawMarks(plot) {
    const pen = plot.ctx;
    const ratio = devicePixelRatio || 1;
    const { left, top, width, height } = plot.bbox;
    pen.save();
    const line = (time, colour, dash) => {
      const x = plot.valToPos(time, "x", true);
      pen.strokeStyle = colour;
      pen.lineWidth = 1.5 * ratio;
      pen.setLineDash(dash.map((part) => part * ratio));
      pen.beginPath();
      pen.moveTo(x, top);
      pen.lineTo(x, top + height);
      pen.stroke();
      pen.setLineDash([]);
      return x;
    };
    if (this.peak) {
      const x = line(this.peak.time, this.colour("--peak"), [3, 3]);
      const y = plot.valToPos(this.peak.bytes, "y", true);
      pen.fillStyle = this.colour("--peak");
      pen.beginPath();
      pen.arc(x, y, 4 * ratio, 0, 2 * Math.PI);
      pen.fill();
      pen.font = `600 ${11 * ratio}px system-ui, sans-serif`;
      const text = `peak ${bytes(this.peak.bytes)}`;
      const room = pen.measureText(text).width + 8 * ratio;
      pen.textBaseline = "middle";
      const toRight = x + room + 6 * ratio < left + width;
      pen.textAlign = toRight ? "left" : "right";
      pen.fillText(text, x + (toRight ? 8 : -8) * ratio, Math.max(top + 2 * ratio, y - 8 * ratio));
    }
    // Where the sites are known at few of the instants, these are marked.
    const known = this.points.filter((point) => point.known);
    if (known.length < 0.5 * this.points.length) {
      pen.fillStyle = this.colour("--line");
      for (const { time } of known) {
        pen.fillRect(plot.valToPos(time, "x", true) - ratio, top + height - 6 * ratio, 2 * ratio, 6 * ratio);
      }
    }
    if (this.picked >= 0) {
      const point = this.points[this.picked];
      const x = line(point.time, this.colour("--ring"), []);
      pen.fillStyle = this.colour("--ring");
      pen.beginPath();
      pen.arc(x, plot.valToPos(sum(point.live), "y", true), 4.5 * ratio, 0, 2 * Math.PI);
      pen.fill();
    }
    pen.restore();
  }

  show(index) {
    this.picked = index;
    const { host, points } = this;
    const point = points[index];
    host.setAttribute("aria-valuemin", "0");
    host.setAttribute("aria-valuemax", String(points.length - 1));
    host.setAttribute("aria-valuenow", String(index));
    host.setAttribute("aria-valuetext", `${seconds(point.time)}: ${bytes(sum(point.live))} live`);
    this.plot.redraw(false, false);
  }

  fit() {
    const width = this.host.clientWidth;
    const height = this.host.clientHeight;
    if (width > 0 && (width !== this.plot.width || height !== this.plot.height)) this.plot.setSize({ width, height });
  }

  repaint() {
    this.plot.redraw(false, true);
  }

  /** The point that says what was held where the pointer is: the last one before it. */
  under(clientX, known) {
    const x = clientX - this.plot.over.getBoundingClientRect().left;
    const time = this.plot.posToVal(x + REACH, "x");
    // The peak is what people aim for: a few pixels beside it are it.
    if (this.peak && Math.abs(this.plot.valToPos(this.peak.time, "x") - x) < 5) {
      return this.points.findIndex((point) => point.tick === TICK_PEAK);
    }
    const first = this.points.findIndex((point) => point.known || !known);
    const found = this.points.findLastIndex((point) => point.time <= time && (point.known || !known));
    return found < 0 ? first : found;
  }

  listen() {
    const { host } = this;
    const { over } = this.plot;
    let held = false;
    const pick = (event) => this.on.pick(this.under(event.clientX, true));
    over.addEventListener("pointerdown", (event) => {
      held = true;
      over.setPointerCapture(event.pointerId);
      pick(event);
    });
    over.addEventListener("pointermove", (event) => {
      if (held) pick(event);
      const point = this.points[this.under(event.clientX, false)];
      this.on.hover(point, event.clientX, event.clientY);
    });
    for (const name of ["pointerup", "pointercancel"]) over.addEventListener(name, () => (held = false));
    over.addEventListener("pointerleave", () => this.on.hover(null, 0, 0));
    host.addEventListener("keydown", (event) => {
      const known = this.points.flatMap((point, index) => (point.known ? [index] : []));
      const last = known.length - 1;
      const here = this.picked < 0 ? last : known.findIndex((index) => index >= this.picked);
      const page = Math.max(1, Math.round(last / 10));
      const to = {
        ArrowLeft: here - 1, ArrowDown: here - 1, ArrowRight: here + 1, ArrowUp: here + 1,
        PageDown: here - page, PageUp: here + page, Home: 0, End: last,
      }[event.key];
      if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.on.pick(known[Math.min(last, Math.max(0, to))]);
    });
  }
}

const REACH = 2; // pixels
const TICK_PEAK = -1;
const TICK_LAST = -2;

function sum(values) {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

function niceTop(high) {
  const unit = 1024 ** Math.floor(Math.log(Math.max(high, 1)) / Math.log(1024));
  const size = high / unit;
  const step = 10 ** Math.floor(Math.log10(size)) / 2;
  return Math.ceil((size * 1.08) / step) * step * unit;
}

/** Grid lines at round binary sizes: 64 MiB, not 67,108,864. */
function byteSplits(plot) {
  const top = plot.scales.y.max || 1;
  const rows = Math.max(2, Math.floor(plot.height / 42));
  const unit = 1024 ** Math.floor(Math.log(Math.max(top / rows, 1)) / Math.log(1024));
  const wanted = top / rows / unit;
  const step = unit * [1, 2, 5, 10, 20, 50, 100, 200, 256, 512, 1024].find((size) => size >= wanted);
  const out = [];
  for (let at = 0; at <= top; at += step) out.push(at);
  return out;
}

function axisBytes(value) {
  return bytes(value).replace(/\.0+ /, " ");
}

function axisTime(value, last) {
  if (last < 1) return `${Number((value * 1000).toPrecision(4))} ms`;
  if (value >= 120) return `${Math.floor(value / 60)}:${String(Math.round(value % 60)).padStart(2, "0")}`;
  return `${Number(value.toPrecision(4))} s`;
}
