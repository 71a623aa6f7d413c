/* The attention explorer: an image, its maps, and a pointer.
 *
 * One file for the app (Streamlit calls it with its component object on every render) and for pages
 * without a server (tae/web/explorer/standalone.py). What comes in is described in tae/web/explorer/payload.py. Nothing is
 * fetched, and no text that comes in ever becomes HTML.
 *
 * Words: a token is a patch of the model; a cell is what one square on the screen stands for, one patch or k x k of them.
 */

const LEVELS = 65535;
const STORE_BYTES = 120e6; // of decoded maps; the least recently used go first
const PREFETCH_BYTES = 2e6; // of maps beside the wanted one in one question
const REST_MS = 300; // a move by keyboard that has rested is told to the server
const ASK_AFTER_MS = 400; // maps may be on their way beside the explorer's own data
const ASK_AGAIN_MS = 10000;
const TAP_PIXELS = 10;
const MAX_SIDE = 520; // of the image, in pixels of the page, where the window is no higher than most
const FIGURE_EXTRA = 120; // what stands above and below the image
const STRONG = 3; // keys that are outlined, the strongest
const VEIL = 0.55; // how far the image fades to white below the map, until somebody chooses
const MEASURE = "tae-explorer-paint";

const PARTS = { encoder: "Encoder", decoder: "Decoder" };
const LAYERS = { average: "Average", rollout: "Rollout" };
const HEADS = {
  mean: "Mean of heads",
  max: "Largest of heads",
  min: "Smallest of heads",
  spread: "Spread between heads",
};
const DIRECTIONS = { from: "Attends to", to: "Attended by" };
const RANGES = { shared: "To 99.5% of weights", full: "To the largest weight", own: "This map only" };
const KEYS = [
  ["← ↑ → ↓", "move the patch"],
  ["Shift, held", "reverse the direction"],
  ["Enter or click", "pin the patch, or let it go"],
  ["Esc", "let all pins go"],
  ["[ and ]", "layer before, after"],
  [", and .", "head before, after"],
];
const GRID_KEYS = [["In the head grid: arrows", "move; Enter ablates a head, Space shows it on the image"]];

/* What outlives one mounting: the maps, by digest and name, oldest use first, and each explorer's view by its memory. */
const store = new Map();
const remembered = new Map();
let measures = 0;

// ---------------------------------------------------------------------------------------------------------------- maps

function keep(data) {
  for (const entry of data.maps) {
    const key = `${data.sides[entry.side].digest}\n${entry.name}`;
    if (store.has(key)) continue;
    const { smallest, largest, column, data: text = null } = entry; // an Arrow column in Streamlit, base64 elsewhere
    const values = column ? data[column].getChildAt(0).toArray().slice() : null;
    store.set(key, { smallest, largest, text, values });
  }
  trim();
}

function trim() {
  let bytes = 0;
  for (const { values } of store.values()) bytes += values ? values.byteLength : 0;
  for (const [key, entry] of store) {
    if (bytes <= STORE_BYTES) return;
    if (!entry.values) continue;
    bytes -= entry.values.byteLength;
    if (entry.text === null) store.delete(key);
    else entry.values = null;
  }
}

/** The map of this name with its values decoded, or null. Decodes one map at a time, when it is first looked at. */
function find(digest, name) {
  const key = `${digest}\n${name}`;
  const entry = store.get(key);
  if (!entry) return null;
  store.delete(key); // put to the end: used last
  store.set(key, entry);
  if (!entry.values) {
    const bytes = Uint8Array.fromBase64 ? Uint8Array.fromBase64(entry.text) : bytesOf(atob(entry.text));
    entry.values = new Uint16Array(bytes.buffer); // little-endian, as every browser's machine is
    trim();
  }
  return entry;
}

function bytesOf(binary) {
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** Weight of one pair of cells in x uniform. */
function weightOf(entry, side, query, key) {
  const root = entry.values[query * side.count + key] / LEVELS;
  return root * root * entry.largest * side.tokens;
}

/** All weights of one cell in x uniform: those it places, or those that are placed on it. */
function weightsOf(entry, side, cell, direction) {
  const { count } = side;
  const factor = (entry.largest * side.tokens) / (LEVELS * LEVELS);
  const [start, step] = direction === "from" ? [cell * count, 1] : [cell, count];
  const weights = new Float32Array(count);
  for (let i = 0, at = start; i < count; i++, at += step) weights[i] = entry.values[at] ** 2 * factor;
  return weights;
}

function strongest(values, size = (value) => value) {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (size(values[i]) > size(values[best])) best = i;
  return best;
}

/** Places of the largest values that reach a limit, at most so many. */
function strongestOf(values, count, limit) {
  const found = [];
  for (let i = 0; i < values.length; i++) {
    if (values[i] < limit || (found.length === count && values[i] <= values[found[count - 1]])) continue;
    found.push(i);
    found.sort((a, b) => values[b] - values[a]);
    found.length = Math.min(found.length, count);
  }
  return found;
}

// --------------------------------------------------------------------------------------------------------------- sides

/** A side with what follows from it: how many tokens and cells, and how large a cell is in pixels. */
function sideOf(given) {
  const [rows, columns] = given.cells;
  const [height, width] = given.size;
  return {
    ...given,
    rows,
    columns,
    height,
    width,
    count: rows * columns,
    tokens: given.grid[0] * given.grid[1],
    cell: given.patch * given.merged,
  };
}

const cellOf = (side, token) =>
  Math.floor(Math.floor(token / side.grid[1]) / side.merged) * side.columns +
  Math.floor((token % side.grid[1]) / side.merged);

const placeIn = (side, cell) => [Math.floor(cell / side.columns), cell % side.columns]; // row, column

function tokenOf(side, cell) {
  const [row, column] = placeIn(side, cell);
  return row * side.merged * side.grid[1] + column * side.merged;
}

const alike = (a, b) => a.grid.join() === b.grid.join();

/** The cell of `to` at the same relative place as a cell of `from`. */
function cellAcross(from, to, cell) {
  if (alike(from, to)) return cell;
  const middle = (number, step, size) => (number * step + Math.min((number + 1) * step, size)) / 2 / size;
  const [row, column] = placeIn(from, cell);
  const y = middle(row, from.cell, from.height);
  const x = middle(column, from.cell, from.width);
  return Math.floor((y * to.height) / to.cell) * to.columns + Math.floor((x * to.width) / to.cell);
}

/** "84 (row 6, column 6)", or for merged patches "(rows 12 to 13, columns 0 to 1)". */
function placeOf(side, cell) {
  const [row, column] = placeIn(side, cell);
  if (side.merged === 1) return `${cell} (row ${row}, column ${column})`;
  const span = (number, size) => `${number * side.merged} to ${Math.min((number + 1) * side.merged, size) - 1}`;
  return `(rows ${span(row, side.grid[0])}, columns ${span(column, side.grid[1])})`;
}

const patchWord = (side) => (side.merged === 1 ? "patch" : "patches");

/** What has to be said where a cell is more than one patch. */
const mergedNote = (side, before = "") =>
  side.merged > 1 ? `${before}each cell: strongest of ${side.merged}x${side.merged} patches, of pairs` : "";

// --------------------------------------------------------------------------------------------------------------- words

/** Three digits, none beyond the third decimal: what a weight keeps when it is quantised. */
function number(value) {
  if (value > 0 && value < 0.001) return "under 0.001";
  return String(value >= 1000 ? Math.round(value) : Number(value >= 1 ? value.toPrecision(3) : value.toFixed(3)));
}

function signed(value) {
  const size = Math.abs(value);
  return size < 0.001 ? number(size) : (value > 0 ? "+" : "−") + number(size);
}

const layerLabel = (layer) => LAYERS[layer] || layer;
const headLabel = (head) => HEADS[head] || (/^\d+$/.test(head) ? `Head ${head}` : head);

function mapLabel(name) {
  const [part, layer, head] = name.split("/");
  const where = /^\d+$/.test(layer) ? `layer ${layer}` : layer === "average" ? "average of layers" : layerLabel(layer);
  return `${PARTS[part] || part}, ${where}, ${headLabel(head).toLowerCase()}`;
}

const unitOf = (name) => (name.endsWith("/spread") ? "x uniform (spread)" : "x uniform");

// ------------------------------------------------------------------------------------------------------------- colours

const pack = (r, g, b, a) => ((a << 24) | (b << 16) | (g << 8) | r) >>> 0;

/** 256 colours with their opacity, as words of an ImageData; [place, [r, g, b], opacity] in between is linear. */
function overlayColours(stops) {
  return Uint32Array.from({ length: 256 }, (_, step) => {
    const place = step / 255;
    const next = Math.max(1, stops.findIndex((stop) => stop[0] >= place));
    const [from, to] = [stops[next - 1], stops[next]];
    const t = (place - from[0]) / (to[0] - from[0]);
    const mix = (a, b) => Math.round(a + t * (b - a));
    const [r, g, b] = from[1].map((channel, i) => mix(channel, to[1][i]));
    return pack(r, g, b, mix(255 * from[2], 255 * to[2]));
  });
}

/** Where a colour bar has its numbers: a few round ones, and the end. */
function ticksOf(from, to) {
  const raw = (to - from) / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw * 0.999);
  const ticks = [];
  for (let i = Math.ceil(from / step); i * step <= to; i++) ticks.push(i * step);
  const margin = (to - from) * 0.13; // room for the number at the end
  const inner = ticks.filter((tick) => tick < to - margin && (from === 0 || tick > from + margin));
  return from === 0 ? [...inner, to] : [from, ...inner, to];
}

// -------------------------------------------------------------------------------------------------------------- figures

/** A canvas with an image and cells over it; maybe a colour bar below. */
class Figure {
  constructor(side, image, { bar = false, label = "", hasLines = true } = {}) {
    Object.assign(this, { side, image, hasLines });
    this.caption = make("figcaption");
    this.canvas = make("canvas", { className: "tae-canvas", "aria-label": label });
    this.context = this.canvas.getContext("2d");
    this.loading = make("span", { className: "tae-loading", hidden: true, textContent: "loading" });
    this.readout = make("p", { className: "tae-readout" });
    const frame = make("div", { className: "tae-frame" }, this.canvas, this.loading);
    this.element = make("figure", {}, this.caption, frame);
    if (bar) {
      this.bar = make("canvas", { className: "tae-bar", width: 256, height: 1 });
      this.ticks = make("div", { className: "tae-ticks" });
      this.unit = make("div", { className: "tae-unit" });
      this.element.append(this.bar, this.ticks, this.unit);
    }
    this.element.append(this.readout);
    this.veil = 0;
    this.cells = make("canvas", { width: side.columns, height: side.rows });
    this.cellContext = this.cells.getContext("2d");
    this.pixels = this.cellContext.createImageData(side.columns, side.rows);
    this.words = new Uint32Array(this.pixels.data.buffer);
    this.base = make("canvas");
  }

  resize(maxWidth, maxHeight) {
    const { side, canvas } = this;
    this.ratio = pixelRatio();
    this.scale = evenly(Math.min((maxWidth * this.ratio) / side.width, (maxHeight * this.ratio) / side.height));
    this.shown = sizeCanvas(canvas, side.width * this.scale, side.height * this.scale);
    this.element.style.width = `${this.shown.width}px`;
    const { width, height } = canvas;
    this.base.width = width;
    this.base.height = height;
    this.lines = new Path2D();
    const step = side.cell * this.scale;
    if (step >= 5 && this.hasLines) {
      for (let x = 1; x < side.columns; x++) this.line(Math.round(x * step) + 0.5, 0, 0, height);
      for (let y = 1; y < side.rows; y++) this.line(0, Math.round(y * step) + 0.5, width, 0);
    }
    this.drawBase();
  }

  line(x, y, dx, dy) {
    this.lines.moveTo(x, y);
    this.lines.lineTo(x + dx, y + dy);
  }

  drawBase() {
    const context = this.base.getContext("2d");
    context.fillStyle = "#f7f7f7"; // under a difference, and until the image is decoded
    context.fillRect(0, 0, this.base.width, this.base.height);
    if (!this.image || this.image.complete === false) return;
    context.imageSmoothingEnabled = this.scale < 1;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.image, 0, 0, this.base.width, this.base.height);
    context.fillStyle = `rgba(255, 255, 255, ${this.veil})`; // dark keys on a dark image would not be seen
    context.fillRect(0, 0, this.base.width, this.base.height);
  }

  /** Values in x uniform, or null where they are not here yet; marks: [{cell, kind, label}], the last on top. */
  paint(values, colours, from, to, marks) {
    const { context, side, words } = this;
    context.drawImage(this.base, 0, 0);
    if (values) {
      const factor = 255 / (to - from);
      for (let i = 0; i < words.length; i++) {
        words[i] = colours[Math.max(0, Math.min(255, Math.round((values[i] - from) * factor)))];
      }
      this.cellContext.putImageData(this.pixels, 0, 0);
      context.imageSmoothingEnabled = false;
      const step = side.cell * this.scale; // the last cells may reach over the edge
      context.drawImage(this.cells, 0, 0, side.columns * step, side.rows * step);
    }
    context.lineWidth = 1;
    context.strokeStyle = "rgba(128, 128, 128, 0.3)";
    context.stroke(this.lines);
    for (const mark of marks) this.mark(mark);
    this.loading.hidden = Boolean(values);
  }

  mark({ cell, kind, label, colour }) {
    const { context, side, canvas, ratio } = this;
    const [row, column] = placeIn(side, cell);
    const step = side.cell * this.scale;
    const thick = (kind === "query" ? 3 : 2) * ratio;
    const half = thick / 2 + ratio; // outlines stay within the image
    if (kind === "strong") {
      context.strokeStyle = "rgba(0, 0, 0, 0.7)";
      context.lineWidth = ratio;
      context.strokeRect(column * step + ratio, row * step + ratio, step - 2 * ratio, step - 2 * ratio);
      return;
    }
    const [x, y] = [Math.max(half, column * step), Math.max(half, row * step)];
    const width = Math.min((1 + column) * step, canvas.width - half) - x;
    const height = Math.min((1 + row) * step, canvas.height - half) - y;
    context.setLineDash([]);
    context.lineWidth = thick + 2 * ratio;
    context.strokeStyle = kind === "key" ? "rgba(0, 0, 0, 0.85)" : "rgba(255, 255, 255, 0.8)";
    context.strokeRect(x, y, width, height);
    if (kind === "key") context.setLineDash([3 * ratio, 3 * ratio]);
    context.lineWidth = thick;
    context.strokeStyle = kind === "key" ? "#ffffff" : colour;
    context.strokeRect(x, y, width, height);
    context.setLineDash([]);
    if (!label) return;
    const size = 13 * ratio;
    const left = Math.min(x, canvas.width - size);
    const top = Math.max(0, Math.min(y, canvas.height - size));
    context.fillStyle = colour;
    context.fillRect(left, top, size, size);
    context.fillStyle = "#ffffff";
    context.font = `bold ${10 * ratio}px sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(label, left + size / 2, top + size / 2 + 0.5 * ratio);
  }

  /** The bar as its colours look on white paper, whatever the page's background is. */
  showBar(colours, from, to, unit, isClipped) {
    const key = `${from} ${to} ${unit} ${isClipped} ${colours === this.barColours}`;
    if (key === this.barKey) return;
    this.barKey = `${from} ${to} ${unit} ${isClipped} true`;
    this.barColours = colours;
    const context = this.bar.getContext("2d");
    const pixels = context.createImageData(256, 1);
    new Uint32Array(pixels.data.buffer).set(colours);
    context.putImageData(pixels, 0, 0);
    this.ticks.replaceChildren(
      ...ticksOf(from, to).map((tick) => {
        const beyond = isClipped && tick === to ? "≥ " : isClipped && tick === from && from < 0 ? "≤ " : "";
        const label = make("span", { textContent: beyond + (from < 0 ? signed(tick) : number(tick)) });
        const place = (100 * (tick - from)) / (to - from);
        label.style.left = `${place}%`;
        label.style.transform = `translateX(${-place}%)`;
        return label;
      }),
    );
    this.unit.textContent = unit;
  }

  cellAt(event) {
    const { side } = this;
    const box = this.canvas.getBoundingClientRect();
    const within = (share, size, count) =>
      Math.max(0, Math.min(count - 1, Math.floor((share * size) / side.cell)));
    const row = within((event.clientY - box.top) / box.height, side.height, side.rows);
    return row * side.columns + within((event.clientX - box.left) / box.width, side.width, side.columns);
  }
}

/** A labelled choice: buttons where the options are few, a list where they are many. */
class Choice {
  constructor(label, options, isList, choose) {
    this.options = options;
    const id = `tae-${Math.random().toString(36).slice(2)}`;
    this.items = options.map(([value, textContent]) =>
      isList
        ? make("option", { value, textContent })
        : make("button", { type: "button", textContent, onclick: () => choose(value) }),
    );
    const named = isList ? { onchange: () => choose(this.list.value) } : { className: "tae-buttons", role: "group" };
    const group = make(isList ? "select" : "div", { ...named, "aria-labelledby": id }, ...this.items);
    this.list = isList ? group : null;
    const name = make("span", { className: "tae-label", id, textContent: label });
    this.element = make("div", { className: "tae-choice", "data-choice": label }, name, group);
  }

  show(chosen, isThere = () => true) {
    this.items.forEach((item, i) => {
      const [value] = this.options[i];
      item.disabled = !isThere(value);
      item.title = item.disabled ? "This map is not in this file" : "";
      if (!this.list) item.setAttribute("aria-pressed", String(value === chosen));
    });
    if (this.list) this.list.value = chosen;
  }
}

// ------------------------------------------------------------------------------------------------------------- explorer

class Explorer {
  constructor(parent) {
    this.data = null;
    this.view = null;
    this.hover = null; // {side, cell, pin: number or null}
    this.isReversed = false;
    this.pins = []; // figures of the pinned patches
    this.pinSize = [150, 150]; // until there is a width
    this.laidOut = 0; // width for which the canvases were sized
    this.asked = { key: "", time: 0 };
    this.preview = null; // name of the map under the pointer in the head grid
    this.veil = VEIL;
    this.hear = (data) => this.data?.memory === data.memory && this.sides && this.feed(data);
    feeds.listeners.add(this.hear);
    this.matrix = new Matrix({ point: (token) => this.point(token) });
    this.root = make("div", { className: "tae-component tae-explorer", onkeydown: (event) => this.onKey(event) });
    parent.append(this.root);
    this.closed = new AbortController();
    const listen = (name, act) => window.addEventListener(name, act, { signal: this.closed.signal });
    listen("keydown", ({ key }) => {
      if (key === "Shift" && (this.hover || this.root.matches(":focus-within"))) this.reverse(true);
    });
    listen("keyup", ({ key }) => key === "Shift" && this.reverse(false));
    listen("blur", () => this.reverse(false));
    this.observer = watchWidth(this);
  }

  close() {
    if (this.resting) this.send();
    this.observer.disconnect();
    feeds.listeners.delete(this.hear);
    this.matrix.close();
    this.closed.abort();
    cancelAnimationFrame(this.frame);
    clearTimeout(this.askTimer);
    clearTimeout(this.waiting);
    this.root.remove();
  }

  // -- what comes in

  update({ data, setStateValue }) {
    if (!data || !data.sides) return;
    keep(data);
    this.tell = setStateValue;
    this.data = data;
    const shape = JSON.stringify([data.sides, data.max_pins, data.on_demand, data.colours, data.limit]);
    const isNew = shape !== this.shape;
    if (isNew) this.sides = data.sides.map(sideOf);
    const kept = data.memory && !this.view ? remembered.get(data.memory) : null;
    const isBack = Boolean(kept) && kept.revision === data.view.revision;
    if (isBack) this.view = { ...kept };
    else if (!this.view || data.view.revision !== this.view.revision) this.view = { ...data.view };
    this.fitView();
    if (isNew) this.build();
    this.shape = shape;
    this.notes.replaceChildren(...notesOf(data.notes));
    this.root.dataset.bare = String(data.bare);
    this.showPins();
    if (isNew) for (const data of feeds.latest.values()) this.hear(data);
    this.showGrid();
    if (isBack) this.commit(); // the server has forgotten it
    this.schedule();
  }

  /** What the server sends beside the explorer's own data, so that a click sends no map anew. */
  feed(data) {
    if (this.isPair || data.digest !== this.sides[0].digest) return;
    if (data.feed === "heads") {
      const values = data.cells.getChildAt(0).toArray().slice();
      const [rows, columns] = data.shape;
      const count = rows * columns;
      const maps = data.names.map((name, i) => {
        const part = values.subarray(i * count * count, (i + 1) * count * count);
        return [name, { values: part, largest: data.largest[i], smallest: data.smallest[i], text: null }];
      });
      this.fedMaps = { digest: data.digest, maps: Object.fromEntries(maps) };
      this.fedShape = { rows, columns, count, merged: data.merged, tokens: this.sides[0].tokens };
      if (data.merged === this.sides[0].merged) {
        for (const [name, map] of maps) store.set(`${data.digest}\n${name}`, map);
        trim();
      }
      this.showGrid();
    } else if (data.feed === "outcome") {
      this.isLaidOutWithout ||= !this.outcome.data;
      this.outcome.update({ ...data, image: this.sides[0].image }, this.colours.difference);
      this.grid.canAblate = true;
      this.grid.pending.clear();
      this.grid.ablated = new Set(data.ablated);
      this.grid.showAblated();
      this.showPins();
      this.root.dataset.ablated = data.ablated.join(" ");
      if (this.isLaidOutWithout) this.layOut();
      this.isLaidOutWithout = false;
    } else if (data.feed === "losses") this.grid.showLosses(data.losses, data.words);
    this.schedule();
  }

  /** The head grid from the maps that were fed, or else from those in the explorer's own data. */
  showGrid() {
    if (this.isPair) return;
    const [side] = this.sides;
    let [maps, shape] = [this.fedMaps?.digest === side.digest ? this.fedMaps.maps : null, this.fedShape];
    if (!maps && !this.data.on_demand) {
      const names = side.names.filter((name) => isInGrid(name) && store.has(`${side.digest}\n${name}`));
      maps = Object.fromEntries(names.map((name) => [name, find(side.digest, name)]));
      shape = side;
    }
    const key = maps ? `${side.digest} ${Object.keys(maps).length}` : "";
    if (!maps || key === this.gridKey || Object.keys(maps).length < 2) return;
    this.gridKey = key;
    const { rows, columns, count, merged, tokens } = shape;
    this.grid.show(maps, { rows, columns, count, merged, tokens });
    const losses = feeds.latest.get(`${this.data.memory} losses`);
    this.grid.showLosses(losses?.digest === side.digest ? losses.losses : {}, losses?.words);
    this.gridArea.hidden = false;
    this.layOut();
  }

  /** Tell the server what was done to the model: {do, name}; it answers with an outcome. */
  ablate(what, name = "") {
    const [part, layer] = name.split("/");
    if (what === "toggle" && this.grid.ablated.has(`${part}/${layer}/attention`)) name = `${part}/${layer}/attention`;
    if (name) this.grid.pending.add(name);
    this.grid.showAblated();
    this.tell("act", { number: performance.now(), do: what, name }); // a number, since the same click may come twice
  }

  get isPair() {
    return this.sides.length === 2;
  }

  get maxPins() {
    return this.isPair ? 1 : this.data.max_pins;
  }

  /** Name of the map on display. */
  nameOf(number = 0) {
    const { part, layer, head } = this.view;
    if (this.isPair) return this.sides[number].names[0];
    const isHere = this.preview && store.has(`${this.sides[0].digest}\n${this.preview}`);
    return isHere ? this.preview : `${part}/${layer}/${head}`;
  }

  isThere(name) {
    return this.data.on_demand || store.has(`${this.sides[0].digest}\n${name}`);
  }

  /** Names that can be chosen, under a beginning such as "encoder/" or "encoder/0/". */
  namesUnder(beginning) {
    return this.sides[0].names.filter((name) => name.startsWith(beginning) && this.isThere(name));
  }

  /** Bring a view from elsewhere to what is here: another checkpoint may have fewer layers, another image patches. */
  fitView() {
    const { view } = this;
    const { tokens } = this.sides[0];
    if (!this.isPair && !(this.sides[0].names.includes(this.nameOf()) && this.isThere(this.nameOf()))) {
      const { part, layer, head } = view;
      const found = [`${part}/${layer}/mean`, `${part}/average/mean`].find((name) => this.namesUnder(name).length);
      const names = this.namesUnder(`${part}/${layer}/`).concat(this.namesUnder(`${part}/`), this.namesUnder(""));
      const name = found || names.find((other) => other.endsWith(`/${head}`)) || names[0] || this.nameOf();
      [view.part, view.layer, view.head] = name.split("/");
    }
    if (!(view.query >= 0 && view.query < tokens)) view.query = 0;
    view.pins = view.pins.filter((pin) => pin >= 0 && pin < tokens).slice(0, this.maxPins);
  }

  // -- what goes out

  /** Tell the server the view; a move by keyboard only when it has rested. */
  commit(mayRest = false) {
    clearTimeout(this.resting);
    this.resting = null;
    this.schedule();
    if (mayRest) this.resting = setTimeout(() => this.send(), REST_MS);
    else this.send();
  }

  send() {
    clearTimeout(this.resting);
    this.resting = null;
    const view = { ...this.view, pins: [...this.view.pins] };
    if (this.data.memory) remembered.set(this.data.memory, view);
    this.live.textContent = this.said || "";
    const text = JSON.stringify(view);
    if (text === this.told) return;
    this.told = text;
    this.tell("view", view);
  }

  /** Ask the server for the map on display, and for its neighbours where they are small. */
  ask(side, name) {
    const key = `${side.digest}\n${name}`;
    const now = performance.now();
    if (this.asked.key === key && now - this.asked.time < ASK_AGAIN_MS) return;
    this.asked = { key, time: now };
    const [part, layer] = name.split("/");
    const more = side.names.filter(
      (other) => other !== name && other.startsWith(`${part}/${layer}/`) && !store.has(`${side.digest}\n${other}`),
    );
    const room = Math.floor(PREFETCH_BYTES / (2 * side.count ** 2));
    const { revision } = this.view;
    this.tell("wanted", { digest: side.digest, revision, names: [name, ...more.slice(0, Math.max(0, room - 1))] });
    clearTimeout(this.askTimer);
    this.askTimer = setTimeout(() => this.schedule(), ASK_AGAIN_MS + 100);
  }

  // -- what is on the page

  build() {
    const { data, sides } = this;
    this.colours = {
      weight: overlayColours(data.colours.overlay),
      difference: overlayColours(data.colours.difference.map((colour, i, { length }) => [i / (length - 1), colour, 1])),
    };
    this.hover = null;
    this.preview = null;
    this.gridKey = "";
    this.pins = [];
    this.notes = make("div", { className: "tae-notes" });
    this.live = make("p", { className: "tae-live", role: "status" });
    this.status = make("p", { className: "tae-status" });
    this.hint = make("p", { className: "tae-hint" });
    this.pinArea = make("div", { className: "tae-pins" });
    const images = sides.map((side) => {
      const onload = () => {
        for (const figure of this.everyFigure()) figure.drawBase();
        this.grid.drawBase(this.figures[0].image, this.veil);
        this.schedule();
      };
      return make("img", { onload, src: side.image });
    });
    this.figures = sides.map((side, i) => {
      const figure = new Figure(side, images[i], {
        bar: true,
        label: "The image, patch by patch. Arrow keys move the patch, Enter pins it.",
      });
      figure.canvas.setAttribute("role", "application");
      if (i === 0) figure.canvas.tabIndex = 0;
      figure.caption.textContent = this.isPair ? `${"AB"[i]}: ${side.title}` : side.title;
      figure.caption.hidden = !figure.caption.textContent;
      this.listen(figure, i, null);
      return figure;
    });
    this.difference = null;
    this.apart = make("p", { className: "tae-apart", hidden: true });
    if (this.isPair && alike(...sides)) {
      this.difference = new Figure(sides[0], null, { bar: true, label: "A minus B, patch by patch" });
      this.difference.caption.textContent = "A − B";
      this.listen(this.difference, 0, null);
    } else if (this.isPair) {
      const [a, b] = sides.map(({ grid }) => `${grid[1]}x${grid[0]}`);
      this.apart.textContent = `There is no difference A − B: A has ${a} patches, B has ${b}. The pointer marks the same place in both.`;
      this.apart.hidden = false;
    }
    const shown = this.difference ? [...this.figures, this.difference] : this.figures;
    for (const figure of this.figures) figure.veil = this.veil;
    this.outcome = new Outcome(sides[0], (what) => this.ablate(what));
    this.grid = new HeadGrid(sides[0], {
      preview: (name) => {
        this.preview = name;
        this.schedule();
      },
      choose: (name) => this.choose(...name.split("/")),
      ablate: (name) => this.ablate("toggle", name),
    });
    this.gridArea = make("div", { className: "tae-grid-area", hidden: true }, this.grid.element);
    this.outcome.element.hidden = true;
    this.main = make("div", { className: "tae-main" }, ...shown.map((figure) => figure.element));
    this.stage = make("div", { className: "tae-stage" }, this.main);
    if (!this.isPair) this.stage.append(this.outcome.element, this.gridArea);
    this.hint.hidden = this.pinArea.hidden = this.isPair;
    const keys = this.isPair ? KEYS.filter(([key]) => !/[[,]/.test(key)) : [...KEYS, ...GRID_KEYS];
    const help = closedList("Shortcuts", keys, { className: "tae-keys" });
    this.root.replaceChildren(this.notes, this.toolbar(), this.stage, this.hint, this.apart, this.status, this.pinArea, help, this.live);
    this.layOut();
  }

  everyFigure() {
    return [...this.figures, ...(this.difference ? [this.difference] : []), ...this.pins];
  }

  toolbar() {
    const { names } = this.sides[0];
    const pick = (at) => [...new Set(names.map((name) => name.split("/")[at]))];
    const order = (known) => (a, b) => {
      const rank = (value) => (/^\d+$/.test(value) ? 100 + Number(value) : Object.keys(known).indexOf(value) + 50);
      return rank(a) - rank(b);
    };
    this.layers = pick(1).sort(order(LAYERS));
    this.heads = pick(2).sort(order(HEADS));
    this.choices = {};
    const offer = (field, title, values, label, isList) => {
      const options = values.map((value) => [value, label(value)]);
      this.choices[field] = new Choice(title, options, isList, (value) => {
        const { part, layer, head } = { ...this.view, [field]: value };
        this.choose(part, layer, head);
      });
    };
    if (!this.isPair) {
      offer("part", "Part", pick(0), (part) => PARTS[part] || part, false);
      offer("layer", "Layer", this.layers, layerLabel, true);
      offer("head", "Head", this.heads, headLabel, true);
    }
    const set = (field) => (value) => {
      this.view[field] = value;
      this.commit();
    };
    this.choices.direction = new Choice("Direction", Object.entries(DIRECTIONS), false, set("direction"));
    const ranges = Object.entries({ ...RANGES, ...(this.isPair ? { own: "These maps only" } : {}) });
    this.choices.range = new Choice("Colour range", ranges, true, set("range"));
    const elements = Object.values(this.choices).map((choice) => choice.element);
    elements.push(this.overlay());
    return make("div", { className: "tae-toolbar", role: "group", "aria-label": "What is shown" }, ...elements);
  }

  /** How far the image fades below the map. */
  overlay() {
    const id = `tae-${Math.random().toString(36).slice(2)}`;
    const slider = make("input", { type: "range", min: 0, max: 100, value: 100 * this.veil, "aria-labelledby": id });
    slider.oninput = () => {
      this.veil = slider.value / 100;
      for (const figure of [...this.figures, ...this.pins]) figure.veil = this.veil;
      for (const figure of [...this.figures, ...this.pins]) figure.drawBase();
      this.grid.drawBase(this.figures[0].image, this.veil);
      this.schedule();
    };
    const name = make("span", { className: "tae-label", id, textContent: "Fade image" });
    return make("div", { className: "tae-choice tae-overlay" }, name, slider);
  }

  /** Show a map, or the one nearest to it: not every layer has every head, not every part every layer. */
  choose(part, layer, head) {
    const found = [`${part}/${layer}/${head}`, `${part}/${layer}/`, `${part}/average/${head}`, `${part}/`]
      .map((beginning) => this.namesUnder(beginning))
      .map((names) => names.find((name) => name.endsWith(`/${head}`)) || names.find((name) => name.endsWith("/mean")) || names[0])
      .find(Boolean);
    if (!found) return;
    [this.view.part, this.view.layer, this.view.head] = found.split("/");
    this.commit();
  }

  /** The next layer or head that there is, in a circle. */
  step(field, by) {
    const { part, layer, head } = this.view;
    const isHead = field === "head";
    const all = (isHead ? this.heads : this.layers).filter((value) =>
      isHead ? this.namesUnder(`${part}/${layer}/${value}`).includes(`${part}/${layer}/${value}`) : this.namesUnder(`${part}/${value}/`).length,
    );
    const next = all[(all.indexOf(isHead ? head : layer) + by + all.length) % all.length];
    this.choose(part, isHead ? layer : next, isHead ? next : head);
  }

  /** Figures for the pinned patches; those that are there stay, so that nothing flickers. */
  showPins() {
    const [side] = this.sides;
    const pins = this.isPair ? [] : this.view.pins;
    const before = new Map(this.pins.map((figure) => [figure.token, figure]));
    this.pins = pins.map((token, i) => {
      const figure = before.get(token) || this.pinFigure(token);
      figure.pin = i;
      const at = cellOf(side, token);
      const [short, long] = [`${i + 1} · patch ${token}`, `${i + 1} · ${patchWord(side)} ${placeOf(side, at)}`];
      figure.name.replaceChildren(
        make("span", { className: "tae-short", textContent: short }),
        make("span", { className: "tae-long", textContent: long }),
      );
      figure.remove.setAttribute("aria-label", `Remove pin ${i + 1}`);
      return figure;
    });
    if (this.hover && this.hover.pin !== null && this.hover.pin >= this.pins.length) this.hover = null;
    if (setChildren(this.pinArea, this.pins.map((figure) => figure.element))) {
      for (const figure of this.pins) if (!before.has(figure.token)) figure.resize(...this.pinSize);
    }
    const free = this.maxPins - this.pins.length;
    const act = matchMedia("(hover: none)").matches ? "Tap" : "Click";
    const ablates = this.grid.canAblate ? ` ${act} a head to ablate it.` : "";
    this.hint.textContent =
      free === this.maxPins
        ? `${act} a patch to pin it.${ablates}`
        : free
          ? "Each pinned patch is read against the one under the pointer. Esc lets all pins go."
          : `${this.maxPins} are pinned, as many as there is room for: remove one to pin another.`;
  }

  pinFigure(token) {
    const figure = new Figure(this.sides[0], this.figures[0].image, { label: `Pinned patch ${token}` });
    Object.assign(figure, { token, veil: this.veil });
    figure.name = make("span");
    const onclick = () => this.toggle(token);
    figure.remove = make("button", { type: "button", className: "tae-remove", textContent: "×", onclick });
    figure.caption.append(figure.name, figure.remove);
    this.listen(figure, 0, figure);
    return figure;
  }

  /** Sizes of all canvases from the room that there is; heights are reserved, so that nothing jumps later. */
  layOut() {
    const width = this.root.clientWidth;
    this.laidOut = width;
    if (!width) return;
    const gap = 16;
    const isWide = this.sides.some((side) => side.width > 2.2 * side.height);
    const isBeside = width >= 800 && !isWide;
    const maxHeight = isBeside && window.innerHeight < 1000 ? MAX_SIDE : 1.2 * MAX_SIDE;
    this.root.dataset.layout = isBeside ? "beside" : "below";
    if (this.isPair) {
      const count = isBeside ? (this.difference ? 3 : 2) : isWide || width < 480 ? 1 : 2;
      const room = (width - gap * (count - 1)) / count;
      for (const figure of this.everyFigure()) figure.resize(room, maxHeight);
      this.schedule();
      return;
    }
    const [main] = this.figures;
    const hasOutcome = Boolean(this.outcome.data);
    const hasGrid = !this.gridArea.hidden;
    this.outcome.element.hidden = !hasOutcome;
    const layout = isWide || width < 440 ? "below" : width < (hasOutcome ? 860 : 640) ? "half" : "beside";
    this.root.dataset.layout = layout;
    const count = 1 + hasOutcome;
    const share = { below: 1, half: hasOutcome ? 0.5 : 1, beside: hasOutcome ? (hasGrid ? 0.32 : 0.5) : 0.45 }[layout];
    const figureWidth = layout === "below" ? width : Math.floor(share * width - (gap * (count - 1)) / count);
    const high = layout === "beside" && hasOutcome ? 400 : maxHeight;
    main.resize(figureWidth, high);
    if (hasOutcome) {
      this.outcome.figure.resize(figureWidth, high);
      this.outcome.redraw();
    }
    if (hasGrid) {
      const room = layout === "beside" ? width - count * (main.shown.width + gap) : width;
      this.grid.resize(room, layout === "beside" ? Math.max(420, main.shown.height + FIGURE_EXTRA) : undefined);
      this.grid.drawBase(main.image, this.veil);
    }
    const columns = isWide ? (width >= 700 ? 2 : 1) : width >= 860 ? 6 : width >= 420 ? 3 : 2;
    this.pinSize = [Math.floor((width - 12 * (columns - 1)) / columns), 240];
    const { width: across, height: down } = this.sides[0];
    const pinWidth = Math.min(this.pinSize[0], Math.ceil((this.pinSize[1] * across) / down));
    this.pinArea.style.gridTemplateColumns = `repeat(${columns}, ${pinWidth}px)`;
    this.pinArea.dataset.narrow = String(pinWidth < 240);
    for (const figure of this.pins) figure.resize(...this.pinSize);
    this.schedule();
  }

  // -- what a person does

  listen(figure, side, pinned) {
    const { canvas } = figure;
    const point = (event) => {
      const cell = figure.cellAt(event);
      this.reverse(event.shiftKey);
      const pin = pinned ? pinned.pin : null;
      const { hover } = this;
      if (hover && hover.side === side && hover.cell === cell && hover.pin === pin) return;
      this.hover = { side, cell, pin };
      this.schedule(event.timeStamp);
    };
    let down = null;
    canvas.onpointermove = point;
    canvas.onpointercancel = canvas.onpointerleave = () => this.leave();
    canvas.onpointerdown = (event) => {
      if (event.button !== 0) return;
      down = { x: event.clientX, y: event.clientY, cell: figure.cellAt(event) };
      if (event.pointerType === "touch") canvas.setPointerCapture(event.pointerId);
      point(event);
    };
    canvas.onpointerup = (event) => {
      if (!down || event.button !== 0) return;
      const moved = Math.hypot(event.clientX - down.x, event.clientY - down.y);
      const cell = cellAcross(this.sides[side], this.sides[0], figure.cellAt(event));
      const token = tokenOf(this.sides[0], cell);
      const isSame = down.cell === figure.cellAt(event);
      down = null;
      (pinned ? this.figures[0] : this.figures[side]).canvas.focus({ preventScroll: true });
      if (event.pointerType === "touch") {
        this.hover = null; // there is no pointer that rests: the last patch stays
        if (moved < TAP_PIXELS) this.toggle(token);
        else this.select(token, false);
      } else if (isSame) this.toggle(token);
    };
  }

  leave() {
    this.hover = null;
    this.schedule();
  }

  /** A patch was pointed at elsewhere on the page; null: no longer. */
  point(token) {
    if (!this.sides || this.isPair) return;
    const [side] = this.sides;
    this.hover = token === null || token >= side.tokens ? null : { side: 0, cell: cellOf(side, token), pin: null };
    this.schedule();
  }

  reverse(isReversed) {
    if (isReversed === this.isReversed) return;
    this.isReversed = isReversed;
    this.schedule();
  }

  select(token, mayRest) {
    this.view.query = token;
    this.commit(mayRest);
  }

  /** Pin a patch, or let it go; where two are compared one patch is held, and another takes its place. */
  toggle(token) {
    const { view } = this;
    const [side] = this.sides;
    const at = view.pins.findIndex((pin) => cellOf(side, pin) === cellOf(side, token));
    if (at >= 0) view.pins = view.pins.filter((_, i) => i !== at);
    else if (this.isPair) view.pins = [token];
    else if (view.pins.length < this.maxPins) view.pins = [...view.pins, token];
    view.query = token;
    this.showPins();
    this.commit();
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const path = event.composedPath();
    const isCanvas = path[0] instanceof HTMLCanvasElement;
    const isList = path[0] instanceof HTMLSelectElement;
    if (isCanvas && ARROWS[event.key]) this.move(...ARROWS[event.key]);
    else if (isCanvas && event.key === "Enter") this.toggle(tokenOf(this.sides[0], this.cursor()));
    else if (event.key === "Escape" && this.view.pins.length) this.clear();
    else if (!isList && !this.isPair && "[]".includes(event.key)) this.step("layer", event.key === "[" ? -1 : 1);
    else if (!isList && !this.isPair && ",.".includes(event.key)) this.step("head", event.key === "," ? -1 : 1);
    else return;
    event.preventDefault();
    event.stopPropagation(); // Streamlit has shortcuts of its own
  }

  move(down, right) {
    const [side] = this.sides;
    const [from, start] = placeIn(side, this.cursor());
    const row = Math.max(0, Math.min(side.rows - 1, from + down));
    const column = Math.max(0, Math.min(side.columns - 1, start + right));
    this.hover = null; // the pointer may rest somewhere: keys win until it moves again
    this.select(tokenOf(side, row * side.columns + column), true);
  }

  clear() {
    this.view.pins = [];
    this.showPins();
    this.commit();
  }

  // -- painting

  /** Paint in the next frame; `since` is when the pointer moved, for those who measure. */
  schedule(since = null) {
    if (since !== null) this.since = since;
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      if (!this.laidOut) return;
      this.paint();
      if (this.since === undefined) return;
      if (++measures % 1000 === 0) performance.clearMeasures(MEASURE);
      performance.measure(MEASURE, { start: this.since, end: performance.now() });
      this.since = undefined;
    });
  }

  get direction() {
    const { direction } = this.view;
    return this.isReversed ? (direction === "from" ? "to" : "from") : direction;
  }

  /** The cell of a side under the pointer, or the selected one. */
  cursor(number = 0) {
    const { hover, sides, view } = this;
    if (hover) return cellAcross(sides[hover.side], sides[number], hover.cell);
    return cellAcross(sides[0], sides[number], cellOf(sides[0], view.query));
  }

  entryOf(number) {
    const side = this.sides[number];
    const entry = find(side.digest, this.nameOf(number));
    if (!entry && this.data.on_demand && !this.waiting) {
      this.waiting = setTimeout(() => {
        this.waiting = null;
        if (!store.has(`${this.sides[number].digest}\n${this.nameOf(number)}`)) this.ask(this.sides[number], this.nameOf(number));
      }, ASK_AFTER_MS);
    }
    return entry;
  }

  /** End of the colours in x uniform, one for all maps on display. */
  topOf(entries) {
    const { tops, limit } = this.data;
    const { range } = this.view;
    const largest = entries.map((entry, i) => (entry ? entry.largest * this.sides[i].tokens : 0));
    const top = range === "own" ? Math.max(limit, ...largest) : tops[range];
    return { top, isClipped: largest.some((value) => value > top * 1.0001) };
  }

  paint() {
    const entries = this.sides.map((_, i) => this.entryOf(i));
    const { top, isClipped } = this.topOf(entries);
    this.root.dataset.top = String(top);
    this.said = this.isPair ? this.paintPair(entries, top, isClipped) : this.paintOne(entries[0], top, isClipped);
    this.showToolbar();
    this.showStatus(entries);
    const { root, view, direction } = this;
    Object.assign(root.dataset, {
      map: this.sides.map((_, i) => this.nameOf(i)).join(" "),
      direction,
      pins: view.pins.join(" "),
      readout: this.said,
      state: entries.every(Boolean) ? "ready" : "loading",
    });
  }

  paintOne(entry, top, isClipped) {
    const [side] = this.sides;
    const [figure] = this.figures;
    const { view, hover, direction } = this;
    const colour = this.data.colours.query;
    const unit = unitOf(this.nameOf());
    const isOnPin = Boolean(hover) && hover.pin !== null;
    const key = this.cursor();
    const query = isOnPin ? cellOf(side, view.query) : key;
    this.root.dataset.query = String(tokenOf(side, query));
    const weights = entry ? weightsOf(entry, side, query, direction) : null;
    const pinned = view.pins.map((pin, i) => ({ cell: cellOf(side, pin), kind: "pin", label: String(i + 1), colour }));
    const mark = isOnPin ? { cell: key, kind: "key" } : { cell: query, kind: "query", colour };
    const strong = weights ? strongestOf(weights, STRONG, this.data.limit) : [];
    figure.paint(weights, this.colours.weight, 0, top, [...strong.map((cell) => ({ cell, kind: "strong" })), ...pinned, mark]);
    if (this.outcome.data) this.outcome.paint([mark]);
    const gridTop = view.range === "own" ? this.data.tops.full : this.data.tops[view.range];
    this.grid.paint(tokenOf(side, query), direction, this.colours.weight, gridTop, colour);
    this.grid.mark(this.nameOf());
    this.matrix.colour = colour;
    this.matrix.mark(tokenOf(side, query), direction === "to");
    figure.showBar(this.colours.weight, 0, top, `${unit}; dark = high${mergedNote(side, "; ")}`, isClipped);
    for (const panel of this.pins) {
      const cell = cellOf(side, panel.token);
      const own = [{ cell, kind: "query", colour }];
      if (key !== cell) own.push({ cell: key, kind: "key" });
      panel.paint(entry && weightsOf(entry, side, cell, direction), this.colours.weight, 0, top, own);
      const pair = direction === "from" ? [cell, key] : [key, cell];
      const value = entry ? `${number(weightOf(entry, side, ...pair))} ${unit}` : "loading";
      const where = side.merged === 1 ? key : placeOf(side, key);
      panel.readout.textContent = `${direction === "from" ? "→" : "←"} ${where}: ${value}`;
    }
    let text = "loading";
    if (entry && isOnPin) {
      const held = cellOf(side, this.pins[hover.pin].token);
      text = this.pairText(entry, ...(direction === "from" ? [held, key] : [key, held]));
    } else if (entry) {
      const best = strongest(weights);
      text = this.pairText(entry, ...(direction === "from" ? [query, best] : [best, query]), direction);
    }
    figure.readout.textContent = text;
    return text;
  }

  /** "query patch 84 (row 6, column 6) → key patch 97 (row 7, column 6): 3.21 x uniform" */
  pairText(entry, query, key, strongestOf = "") {
    const [side] = this.sides;
    const word = patchWord(side);
    const best = (is) => (is ? "strongest " : "");
    const value = `${number(weightOf(entry, side, query, key))} ${unitOf(this.nameOf())}`;
    return (
      `${best(strongestOf === "to")}query ${word} ${placeOf(side, query)} → ` +
      `${best(strongestOf === "from")}key ${word} ${placeOf(side, key)}: ${value}`
    );
  }

  paintPair(entries, top, isClipped) {
    const { sides, view, direction } = this;
    const colour = this.data.colours.query;
    const isHeld = view.pins.length > 0;
    const cursors = sides.map((_, i) => this.cursor(i));
    const queries = isHeld ? sides.map((side) => cellAcross(sides[0], side, cellOf(sides[0], view.pins[0]))) : cursors;
    this.root.dataset.query = String(tokenOf(sides[0], queries[0]));
    const weights = entries.map((entry, i) => entry && weightsOf(entry, sides[i], queries[i], direction));
    const marksOf = (i) => [
      { cell: queries[i], kind: "query", colour },
      ...(isHeld && cursors[i] !== queries[i] ? [{ cell: cursors[i], kind: "key" }] : []),
    ];
    const said = this.figures.map((figure, i) => {
      const unit = unitOf(this.nameOf(i));
      figure.paint(weights[i], this.colours.weight, 0, top, marksOf(i));
      figure.showBar(this.colours.weight, 0, top, `${unit}${i ? "" : "; dark = high"}${mergedNote(sides[i], "; ")}`, isClipped);
      const other = weights[i] && (isHeld ? cursors[i] : strongest(weights[i]));
      const isSame = i > 0 && queries[i] === queries[0] && sides[i].tokens === sides[0].tokens; // A names the query already
      const text = weights[i]
        ? this.acrossText(sides[i], isSame ? null : queries[i], other, `${number(weights[i][other])} ${unit}`, isHeld)
        : "loading";
      figure.readout.textContent = text;
      return `${"AB"[i]}: ${text}`;
    });
    if (this.difference) {
      const both = weights[0] && weights[1];
      const apart = both ? weights[0].map((weight, i) => weight - weights[1][i]) : null;
      const ends = this.data.tops.difference;
      const end = view.range === "shared" ? ends[0] : ends[1];
      const isBeyond = view.range === "shared" && ends[1] > ends[0];
      this.difference.paint(apart, this.colours.difference, -end, end, marksOf(0));
      this.difference.showBar(this.colours.difference, -end, end, "x uniform", isBeyond);
      const other = both && (isHeld ? cursors[0] : strongest(apart, Math.abs));
      const text = both
        ? this.acrossText(sides[0], null, other, `${signed(apart[other])} x uniform`, isHeld, "largest difference")
        : "loading";
      this.difference.readout.textContent = text;
      said.push(`A − B: ${text}`);
    }
    return said.join("; ");
  }

  acrossText(side, query, other, value, isHeld, extreme = "strongest") {
    const [from, to] = this.direction === "from" ? ["query", "key"] : ["key", "query"];
    const word = patchWord(side);
    const which = isHeld ? "" : `${extreme}: `;
    const begin = query === null ? "" : `${from} ${word} ${placeOf(side, query)}; `;
    return `${begin}${which}${to} ${word} ${placeOf(side, other)}: ${value}`;
  }

  showToolbar() {
    const { view, choices } = this;
    const key = JSON.stringify([view, this.direction, store.size]);
    if (key === this.toolbarKey && this.shownChoices === choices) return;
    this.toolbarKey = key;
    this.shownChoices = choices;
    if (!this.isPair) {
      const exists = (name) => this.sides[0].names.includes(name) && this.isThere(name);
      choices.part.show(view.part, (part) => this.namesUnder(`${part}/`).length > 0);
      choices.layer.show(view.layer, (layer) => this.namesUnder(`${view.part}/${layer}/`).length > 0);
      choices.head.show(view.head, (head) => exists(`${view.part}/${view.layer}/${head}`));
      choices.head.items.forEach((item, i) => {
        // Heads that this layer does not have at all are not offered; those that are only elsewhere are greyed.
        item.hidden = !this.sides[0].names.includes(`${view.part}/${view.layer}/${this.heads[i]}`);
      });
    }
    choices.direction.show(this.direction);
    choices.range.show(view.range);
  }

  /** The line below every map, as TRUST asks: which map, of which patch, in which range, drawn how. */
  showStatus(entries) {
    const { data, sides } = this;
    const about = sides.map((side, i) => {
      const name = this.nameOf(i);
      const entry = entries[i];
      const unit = unitOf(name);
      const [part, layer] = name.split("/");
      const facts = [mapLabel(name), `N = ${side.tokens}`];
      if (entry) {
        const [low, high] = [entry.smallest, entry.largest].map((weight) => weight * side.tokens);
        facts.push(`${number(low)} to ${number(high)} ${unit}`);
        if (high < data.limit && !name.endsWith("/spread")) {
          facts.push(`practically uniform, no weight reaches ${data.limit} x uniform`);
        }
      }
      for (const key of [part, `${part}/${layer}`]) if (data.status[key]) facts.push(data.status[key]);
      if (side.merged > 1) facts.push(mergedNote(side));
      return (this.isPair ? `${"AB"[i]}: ` : "") + facts.join(" · ");
    });
    const query = cellOf(sides[0], Number(this.root.dataset.query));
    const role = this.direction === "from" ? "query" : "key";
    const asked = this.isPair ? "" : ` · ${role} ${patchWord(sides[0])} ${placeOf(sides[0], query)}`; // of a pair, A's line says it
    const text = `${about.join("\n")}${asked} · not smoothed`;
    if (text !== this.status.textContent) this.status.textContent = text;
  }
}

const explorer = mounting(Explorer);

export default explorer;
