/* The head grid: for the patch under the pointer, one small map on the image for every layer and head, in one colour range.
 *
 * A row is a layer, a column a head; then the mean of the heads, and beside the first two layers the average and the rollout
 * of all. Where the server can ablate (an outcome came), a click on a head does; elsewhere it is put on display.
 */

const GRID_HIGH = 640; // in pixels of the page; a higher grid scrolls
const SMALLEST_CELL = [26, 16]; // width and height in pixels of the page
const CELL_GAP = [5, 9]; // across, and down, where the bar of a loss stands

/** What the server sent besides an explorer's own data, {`${memory} ${kind}`: data}: see tae/web/feed/feed.js. */
const feeds = (globalThis.taeFeeds ??= { latest: new Map(), listeners: new Set() });

class HeadGrid {
  /** act: {preview(name or null), choose(name), ablate(name)}. */
  constructor(side, act) {
    Object.assign(this, { side, act, losses: {}, ablated: new Set(), pending: new Set(), at: 0, canAblate: false });
    this.canvas = make("canvas", { className: "tae-heads-canvas", "aria-hidden": "true" });
    this.context = this.canvas.getContext("2d");
    this.base = make("canvas");
    this.atlas = make("canvas");
    this.atlasContext = this.atlas.getContext("2d");
    this.list = make("div", {
      className: "tae-heads-grid",
      role: "grid",
      tabIndex: 0,
      "aria-label": "One map for each layer and head. Arrow keys move.",
      onkeydown: (event) => this.onKey(event),
      onfocus: () => this.move(this.at),
      onblur: () => this.act.preview(null),
    });
    this.box = make("div", { className: "tae-heads-box" }, this.canvas, this.list);
    this.scroll = make("div", { className: "tae-heads-scroll" }, this.box);
    this.legend = make("p", { className: "tae-heads-legend" });
    this.element = make("div", { className: "tae-heads" }, this.scroll, this.legend);
    this.cells = [];
    this.rows = [];
  }

  /** maps: {name: {values, largest, smallest}}, each of rows x columns cells of `merged` patches a side. */
  show(maps, shape) {
    this.maps = maps;
    this.shape = shape; // {rows, columns, count, merged, tokens}
    const names = Object.keys(maps);
    const key = names.join();
    if (key !== this.key) this.place(names);
    this.key = key;
    this.atlas.width = this.wide * shape.columns;
    this.atlas.height = Math.max(1, this.high * shape.rows);
    this.pixels = this.atlasContext.createImageData(this.atlas.width, this.atlas.height);
    this.words = new Uint32Array(this.pixels.data.buffer);
  }

  /** Where each map stands: encoder above decoder. */
  place(names) {
    const number = (text) => (/^\d+$/.test(text) ? Number(text) : -1);
    const heads = 1 + Math.max(-1, ...names.map((name) => number(name.split("/")[2])));
    const hasMean = names.some((name) => /\/\d+\/mean$/.test(name));
    const hasAll = names.some((name) => /\/(average|rollout)\//.test(name));
    this.wide = heads + hasMean + hasAll;
    this.parts = Object.keys(PARTS).filter((part) => names.some((name) => name.startsWith(`${part}/`)));
    this.rows = [];
    for (const part of this.parts) {
      const layers = names.filter((name) => name.startsWith(`${part}/`)).map((name) => number(name.split("/")[1]));
      const rows = Math.max(1 + Math.max(...layers), names.includes(`${part}/rollout/mean`) ? 2 : 1);
      for (let layer = 0; layer < rows; layer++) {
        this.rows.push({ part, layer: layer <= Math.max(...layers) ? layer : null });
      }
    }
    this.high = this.rows.length;
    const places = new Map(); // of maps by row and column
    for (const name of names) {
      const [part, layer, head] = name.split("/");
      const first = this.rows.findIndex((row) => row.part === part);
      const column = /^\d+$/.test(layer) ? (head === "mean" ? heads : Number(head)) : heads + hasMean;
      const down = /^\d+$/.test(layer) ? Number(layer) : layer === "average" ? 0 : 1;
      places.set((first + down) * this.wide + column, name);
    }
    this.cells = [...places].sort((a, b) => a[0] - b[0]).map(([place, name]) => this.cell(name, place));
    this.at = Math.min(this.at, this.cells.length - 1);
    const titles = Array.from({ length: this.wide }, (_, column) =>
      column < heads ? `head ${column}` : column === heads && hasMean ? "mean" : "all layers",
    );
    this.titles = titles.map((textContent) => make("span", { className: "tae-heads-title", textContent }));
    this.partTitles = this.parts.map((part) => make("span", { className: "tae-heads-part", textContent: PARTS[part] }));
    this.rowTitles = this.rows.map(({ part, layer }) => {
      const title = make("button", { type: "button", className: "tae-heads-row", tabIndex: -1 });
      if (layer === null) return title;
      title.textContent = `layer ${layer}`;
      title.title = "Ablate all heads of this layer";
      title.onclick = () => this.act.ablate(`${part}/${layer}/attention`);
      return title;
    });
    const rows = this.rows.map((_, row) =>
      make("div", { role: "row" }, ...this.cells.filter((cell) => Math.floor(cell.place / this.wide) === row).map(({ element }) => element)),
    );
    this.list.replaceChildren(...rows);
    this.box.replaceChildren(this.canvas, ...this.titles, ...this.partTitles, ...this.rowTitles, this.list);
  }

  cell(name, place) {
    const [, layer, head] = name.split("/");
    const isHead = /^\d+$/.test(head);
    const bar = make("i");
    const text = make("b");
    const element = make("div", { role: "gridcell", className: "tae-heads-cell", id: `tae-cell-${(++cellCount)}` }, bar, text);
    element.dataset.name = name;
    const made = { name, place, isHead, bar, text, element, isAll: !/^\d+$/.test(layer) };
    if (made.isAll) text.textContent = layer;
    element.onpointerenter = (event) => event.pointerType !== "touch" && this.act.preview(name);
    element.onpointerleave = () => this.act.preview(null);
    element.onclick = () => this.press(made);
    return made;
  }

  press(cell) {
    this.at = this.cells.indexOf(cell);
    if (cell.isHead && this.canAblate) this.act.ablate(cell.name);
    else this.act.choose(cell.name);
    this.tell();
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.cells.length) return;
    const cell = this.cells[this.at];
    if (ARROWS[event.key]) this.step(...ARROWS[event.key]);
    else if (event.key === "Home") this.move(0);
    else if (event.key === "End") this.move(this.cells.length - 1);
    else if (event.key === "Enter") this.press(cell);
    else if (event.key === " ") this.act.choose(cell.name);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  step(down, right) {
    const from = this.cells[this.at].place;
    const row = Math.floor(from / this.wide) + down;
    const column = (from % this.wide) + right;
    if (row < 0 || row >= this.high || column < 0 || column >= this.wide) return;
    const to = this.cells.findIndex(({ place }) => place === row * this.wide + column);
    if (to >= 0) this.move(to);
  }

  move(to) {
    this.at = to;
    this.act.preview(this.cells[to]?.name ?? null);
    this.cells[to]?.element.scrollIntoView({ block: "nearest", inline: "nearest" });
    this.tell();
  }

  /** Name and value of the cell with the focus, for those who listen. */
  tell() {
    const cell = this.cells[this.at];
    if (!cell) return;
    this.list.setAttribute("aria-activedescendant", cell.element.id);
    const loss = this.losses[cell.name];
    const facts = [mapLabel(cell.name)];
    if (this.weights) {
      const own = this.weights(cell.name);
      facts.push(`strongest ${number(own)} x uniform`);
    }
    if (loss !== undefined) facts.push(`PSNR without it ${change(loss, 1)} dB`);
    if (this.ablated.has(cell.name)) facts.push("ablated");
    cell.element.setAttribute("aria-label", facts.join(", "));
    for (const other of this.cells) other.element.classList.toggle("tae-at", other === cell);
  }

  showLosses(losses, words) {
    this.losses = losses;
    const most = Math.max(0.1, ...Object.values(losses));
    for (const cell of this.cells) {
      const loss = losses[cell.name];
      cell.bar.style.width = loss === undefined ? "0" : `${(100 * Math.max(0, loss)) / most}%`;
      cell.element.title = mapLabel(cell.name) + (loss === undefined ? "" : `: PSNR without it ${change(loss, 2)} dB`);
    }
    this.legend.textContent = Object.keys(losses).length
      ? `Bars: change of PSNR without this head, to ${change(most, 1)} dB${words ? `; ${words}` : ""}`
      : "";
    this.showAblated();
  }

  showAblated() {
    for (const cell of this.cells) {
      const [part, layer] = cell.name.split("/");
      const isOff = this.ablated.has(cell.name) || (cell.isHead && this.ablated.has(`${part}/${layer}/attention`));
      cell.element.classList.toggle("tae-off", isOff);
      cell.element.classList.toggle("tae-pending", this.pending.has(cell.name));
      cell.element.setAttribute("aria-selected", String(isOff));
      const loss = this.losses[cell.name];
      if (!cell.isAll) cell.text.textContent = isOff && loss !== undefined ? `−${Math.max(0, loss).toFixed(1)}` : isOff ? "off" : "";
    }
    for (const [row, { part, layer }] of this.rows.entries()) {
      this.rowTitles[row].classList.toggle("tae-off", this.ablated.has(`${part}/${layer}/attention`));
      this.rowTitles[row].disabled = layer === null || !this.canAblate;
    }
  }

  /** Give the grid its room: (width, height) in pixels of the page. */
  resize(room, high = GRID_HIGH) {
    if (!this.cells.length) return;
    const { side, canvas } = this;
    const ratio = pixelRatio();
    const [acrossGap, downGap] = CELL_GAP;
    const left = 54;
    const top = 22;
    const between = 20; // above the second part
    const heights = high - top - between * (this.parts.length - 1);
    const shape = side.height / side.width;
    let width = Math.floor((room - left) / this.wide - acrossGap);
    width = Math.min(width, Math.floor((heights / this.high - downGap) / shape), shape < 0.5 ? 260 : 110);
    width = Math.max(width, SMALLEST_CELL[0], Math.ceil(SMALLEST_CELL[1] / shape));
    const cell = [width, Math.max(1, Math.round(width * shape))];
    this.cellSize = cell;
    const x = (column) => left + column * (width + acrossGap);
    const y = (row) => top + row * (cell[1] + downGap) + between * this.parts.indexOf(this.rows[row].part);
    this.corner = this.cells.map(({ place }) => [x(place % this.wide), y(Math.floor(place / this.wide))]);
    const size = [x(this.wide), y(this.high - 1) + cell[1] + downGap];
    sizeCanvas(canvas, size[0] * ratio, size[1] * ratio);
    Object.assign(this.box.style, { width: `${size[0]}px`, height: `${size[1]}px` });
    this.scroll.style.maxHeight = `${high + 24}px`;
    this.cells.forEach(({ element }, i) => {
      const [cx, cy] = this.corner[i];
      Object.assign(element.style, { left: `${cx}px`, top: `${cy}px`, width: `${cell[0]}px`, height: `${cell[1]}px` });
    });
    this.titles.forEach((title, i) => Object.assign(title.style, { left: `${x(i)}px`, top: "4px", width: `${width}px` }));
    this.partTitles.forEach((title, i) => {
      const row = this.rows.findIndex(({ part }) => part === this.parts[i]);
      Object.assign(title.style, { left: "0", top: `${y(row) - (i ? 18 : 20)}px` });
    });
    this.rowTitles.forEach((title, row) =>
      Object.assign(title.style, { left: "0", top: `${y(row) + cell[1] / 2 - 11}px`, width: `${left - 6}px` }),
    );
    this.element.dataset.narrow = String(width < 44);
    this.laidOut = true;
  }

  /** The image below every map, as it is at this strength of the overlay. */
  drawBase(image, veil) {
    if (!this.laidOut) return;
    const { base, canvas, cellSize } = this;
    const ratio = pixelRatio();
    Object.assign(base, { width: canvas.width, height: canvas.height });
    const context = base.getContext("2d");
    context.imageSmoothingQuality = "high";
    for (const [x, y] of this.corner) {
      const box = [x * ratio, y * ratio, cellSize[0] * ratio, cellSize[1] * ratio];
      context.fillStyle = "#f7f7f7";
      context.fillRect(...box);
      if (image && image.complete) context.drawImage(image, ...box);
      context.fillStyle = `rgba(255, 255, 255, ${veil})`;
      context.fillRect(...box);
    }
  }

  /** The weights of one token, or on it, in every map. */
  paint(token, direction, colours, top, queryColour) {
    if (!this.laidOut || !this.maps) return;
    const { shape, side, words, wide, context, canvas, cellSize } = this;
    const ratio = pixelRatio();
    const query = cellOf({ ...side, ...shape }, token);
    const { count, columns, rows, tokens } = shape;
    const across = wide * columns;
    const [start, step] = direction === "from" ? [query * count, 1] : [query, count];
    for (const { name, place } of this.cells) {
      const { values, largest } = this.maps[name];
      const factor = (largest * tokens * 255) / (top * LEVELS * LEVELS);
      const corner = Math.floor(place / wide) * rows * across + (place % wide) * columns;
      for (let row = 0, i = start; row < rows; row++) {
        for (let column = 0, at = corner + row * across; column < columns; column++, at++, i += step) {
          words[at] = colours[Math.min(255, Math.round(values[i] ** 2 * factor))];
        }
      }
    }
    this.atlasContext.putImageData(this.pixels, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(this.base, 0, 0);
    context.imageSmoothingEnabled = false;
    const step2 = side.patch * shape.merged;
    const [sx, sy] = [side.width / step2, side.height / step2]; // the last cells may reach over the image's edge
    const [row, column] = placeIn({ ...side, ...shape }, query);
    const scale = (cellSize[0] * ratio) / side.width;
    context.strokeStyle = queryColour;
    context.lineWidth = Math.max(1, ratio);
    this.corner.forEach(([x, y], i) => {
      const { place } = this.cells[i];
      const from = [(place % wide) * columns, Math.floor(place / wide) * rows];
      context.drawImage(this.atlas, ...from, sx, sy, x * ratio, y * ratio, cellSize[0] * ratio, cellSize[1] * ratio);
      const width = Math.min(step2, side.width - column * step2) * scale;
      const height = Math.min(step2, side.height - row * step2) * scale;
      context.strokeRect(x * ratio + column * step2 * scale, y * ratio + row * step2 * scale, width, height);
    });
    this.weights = (name) => {
      const { values, largest } = this.maps[name];
      let most = 0;
      for (let i = start, k = 0; k < count; k++, i += step) most = Math.max(most, values[i]);
      return (most / LEVELS) ** 2 * largest * tokens;
    };
  }

  mark(shown) {
    for (const { name, element } of this.cells) element.classList.toggle("tae-shown", name === shown);
  }
}

let cellCount = 0;

/** A loss in decibels as a change, with its sign; what rounds to nothing has none. */
const change = (loss, digits) => {
  const size = Math.abs(loss).toFixed(digits);
  return Number(size) === 0 ? size : (loss > 0 ? "−" : "+") + size;
};

/** The maps of the grid among those that an explorer holds: single heads, means of layers, average and rollout. */
const isInGrid = (name) => /^\w+\/(\d+\/(\d+|mean)|(average|rollout)\/mean)$/.test(name);

/** The reconstruction beside the image, its error, and what an ablation changed. */
class Outcome {
  constructor(side, act) {
    this.side = side;
    this.figure = new Figure(side, null, { bar: true, label: "The reconstruction", hasLines: false });
    this.figure.canvas.setAttribute("role", "img");
    this.kind = "recon";
    this.buttons = make("div", { className: "tae-buttons tae-small", role: "group", "aria-label": "Beside the image" });
    this.title = make("span");
    this.figure.caption.append(this.title, this.buttons);
    this.undo = make("button", { type: "button", textContent: "Undo", onclick: () => act("undo") });
    this.reset = make("button", { type: "button", textContent: "Reset", onclick: () => act("reset") });
    this.words = make("p", { className: "tae-outcome-words" });
    this.act = make("div", { className: "tae-buttons tae-small tae-acts" }, this.undo, this.reset);
    this.figure.readout.replaceWith(make("div", { className: "tae-outcome" }, this.words, this.act));
    this.element = this.figure.element;
    this.element.classList.add("tae-outcome-figure");
  }

  update(data, colours) {
    const isNew = data.digest !== this.digest;
    this.data = data;
    this.digest = data.digest;
    this.colours = colours;
    const load = (source) => (source ? make("img", { src: source, onload: () => this.redraw() }) : null);
    if (isNew || data.image !== this.imageSource) this.image = load((this.imageSource = data.image));
    this.plain = load(data.recon);
    this.changed = load(data.changed);
    const kinds = [["recon", "Reconstruction"], ["error", "Error"], ...(data.changed ? [["change", "Change"]] : [])];
    if (!kinds.some(([kind]) => kind === this.kind)) this.kind = "recon";
    this.buttons.replaceChildren(
      ...kinds.map(([kind, textContent]) => {
        const button = make("button", { type: "button", textContent, onclick: () => this.choose(kind) });
        button.setAttribute("aria-pressed", String(kind === this.kind));
        return button;
      }),
    );
    this.title.textContent = data.title;
    this.title.classList.toggle("tae-lost", Boolean(data.changed));
    this.words.textContent = data.words;
    this.words.title = data.ablated_words;
    this.undo.disabled = !data.can_undo;
    this.reset.disabled = !data.ablated.length;
    this.figure.loading.hidden = true;
    this.redraw();
  }

  choose(kind) {
    this.kind = kind;
    this.update(this.data, this.colours);
  }

  /** The canvas of what is chosen; the error and the change on colours centred on zero. */
  redraw() {
    const shown = this.changed || this.plain;
    if (!shown?.complete || !this.image?.complete || !this.plain?.complete) return;
    const { figure } = this;
    if (this.kind === "recon") {
      figure.image = shown;
      figure.bar.hidden = figure.ticks.hidden = figure.unit.hidden = false;
      figure.showBar(GREYS, 0, 1, "grey: 0 black, 1 white", false);
    } else {
      const [a, b] = [greysOf(shown), greysOf(this.kind === "error" ? this.image : this.plain)];
      let end = 0.1;
      for (let i = 0; i < a.length; i++) end = Math.max(end, Math.abs(a[i] - b[i]) / 255);
      const canvas = make("canvas", { width: shown.naturalWidth, height: shown.naturalHeight });
      const context = canvas.getContext("2d");
      const pixels = context.createImageData(canvas.width, canvas.height);
      const words = new Uint32Array(pixels.data.buffer);
      for (let i = 0; i < a.length; i++) words[i] = this.colours[Math.round(127.5 + (127.5 * (a[i] - b[i])) / 255 / end)];
      context.putImageData(pixels, 0, 0);
      figure.image = canvas;
      const unit = this.kind === "error" ? "too dark · reconstruction − image · too light" : "darker · ablated − undisturbed · lighter";
      figure.showBar(this.colours, -end, end, unit, false);
    }
    figure.drawBase();
    this.paint(this.marks || []);
  }

  paint(marks) {
    this.marks = marks;
    if (this.figure.shown) this.figure.paint(null, null, 0, 1, marks);
    this.figure.loading.hidden = Boolean(this.plain);
  }
}

const GREYS = Uint32Array.from({ length: 256 }, (_, grey) => ((255 << 24) | (grey << 16) | (grey << 8) | grey) >>> 0);

/** The greys of an image, one byte a pixel. */
function greysOf(image) {
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  return Uint8Array.from({ length: data.length / 4 }, (_, i) => data[4 * i]);
}
