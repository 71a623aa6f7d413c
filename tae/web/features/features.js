/* Patch features: point at a patch, and every depth shows how alike the other patches are to it.
 *
 * data: {image: URL, size: [height, width], tile: [height, width] of a patch, grid: [rows, columns], token, depths: [{title, name,
 * similar: base64 of N x N bytes, -1 at 0 and 1 at 255, low: least similarity, colours: URL of an image with a pixel a
 * patch}], parts: [{title, count}], ramp: [[r, g, b], ...] from low to 1, query: colour}. What is pinned goes out as {token}.
 */

const VEIL = 0.35; // how far the image fades to white below the colours
const ALPHA = 0.75;
const LARGEST = 420; // side of the image, and of a small map, in pixels of the page
const SMALLEST = [44, 104];

class Features {
  constructor(parent) {
    this.canvas = make("canvas", { tabIndex: 0, role: "application", className: "tae-canvas" });
    this.caption = make("figcaption");
    this.readout = make("p", { "aria-live": "polite" });
    this.own = make("button", { type: "button", textContent: "Each layer's own range", onclick: () => this.change({ own: !this.view.own }) });
    this.main = make("figure", { className: "tae-main" }, this.caption, make("div", { className: "tae-frame" }, this.canvas), this.readout, this.own);
    this.table = make("table");
    this.root = make("div", { className: "tae-component tae-features" }, make("div", { className: "tae-row" }, this.main, make("div", { className: "tae-depths" }, this.table)));
    parent.append(this.root);
    this.view = { token: 0, depth: 0, own: false };
    this.hover = null;
    this.point(this.canvas);
    this.canvas.addEventListener("keydown", (event) => this.onKey(event));
    this.observer = watchWidth(this);
  }

  close() {
    this.observer.disconnect();
    this.root.remove();
  }

  update({ data, setStateValue }) {
    if (!data || !data.depths) return;
    this.tell = (token) => setStateValue("pinned", { token });
    const isNew = JSON.stringify(data) !== this.before;
    if (!isNew) return;
    const isOther = this.data?.image !== data.image || this.data.depths.length !== data.depths.length;
    this.before = JSON.stringify(data);
    this.data = data;
    if (isOther) this.view.depth = data.parts[0].count - 1;
    if (isOther) this.hover = null;
    this.view.token = data.token;
    this.similar = data.depths.map(({ similar }) => Uint8Array.from(atob(similar), (letter) => letter.charCodeAt(0)));
    this.low = Math.min(...data.depths.map(({ low }) => low));
    const load = (src) => make("img", { src, onload: () => this.paint() });
    this.image = load(data.image);
    this.colours = data.depths.map(({ colours }) => load(colours));
    this.build();
    this.layOut();
  }

  build() {
    let at = 0;
    this.cells = [];
    const rows = [];
    for (const { title, count } of this.data.parts) {
      const depths = this.data.depths.slice(at, at + count);
      rows.push(make("tr", {}, make("th", { textContent: title }), ...depths.map((one) => make("th", { textContent: one.title }))));
      for (const kind of ["similarity", "components"]) {
        const cells = depths.map((one, i) => this.cell(kind, at + i, one.name));
        rows.push(make("tr", {}, make("th", { textContent: kind }), ...cells));
      }
      at += count;
    }
    this.table.replaceChildren(...rows);
  }

  cell(kind, depth, name) {
    const canvas = make("canvas", { role: "img", "aria-label": `${name}, ${kind}` });
    const cell = make("td", {}, canvas);
    this.cells.push({ kind, depth, canvas, cell });
    this.point(canvas, () => this.change({ depth }));
    return cell;
  }

  /** The pointer over an image names a patch; a click pins it, or does what else it is for. */
  point(canvas, act = null) {
    canvas.addEventListener("pointermove", (event) => this.over(this.tokenAt(canvas, event)));
    canvas.addEventListener("pointerleave", () => this.over(null));
    canvas.addEventListener("click", (event) => (act ? act() : this.pin(this.tokenAt(canvas, event))));
  }

  tokenAt(canvas, event) {
    const box = canvas.getBoundingClientRect();
    const { size, tile, grid } = this.data;
    const place = [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width];
    const [row, column] = place.map((share, axis) => Math.min(grid[axis] - 1, Math.max(0, Math.floor((share * size[axis]) / tile[axis]))));
    return row * grid[1] + column;
  }

  over(token) {
    if (token === this.hover) return;
    this.hover = token;
    this.paint();
  }

  pin(token) {
    this.view.token = token;
    this.tell(token);
    this.paint();
  }

  change(what) {
    Object.assign(this.view, what);
    this.paint();
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const [rows, columns] = this.data.grid;
    const step = { "[": -1, "]": 1 }[event.key];
    if (ARROWS[event.key]) {
      const [row, column] = [Math.floor(this.view.token / columns) + ARROWS[event.key][0], (this.view.token % columns) + ARROWS[event.key][1]];
      if (row >= 0 && row < rows && column >= 0 && column < columns) this.pin(row * columns + column);
    } else if (step) this.change({ depth: Math.min(this.data.depths.length - 1, Math.max(0, this.view.depth + step)) });
    else return;
    event.preventDefault();
  }

  layOut() {
    this.laidOut = this.root.clientWidth;
    const [height, width] = this.data.size;
    const ratio = pixelRatio();
    const most = Math.min(this.laidOut, width > 3 * height ? this.laidOut : LARGEST);
    sizeCanvas(this.canvas, most * ratio, ((most * height) / width) * ratio);
    this.main.style.width = `${most}px`;
    const across = Math.max(...this.data.parts.map(({ count }) => count));
    const room = this.laidOut - most > 400 ? this.laidOut - most - 110 : this.laidOut - 90;
    const side = Math.min(width > 3 * height ? 260 : SMALLEST[1], Math.max(SMALLEST[0], Math.floor(room / across) - 6));
    for (const { canvas } of this.cells) sizeCanvas(canvas, side * ratio, ((side * height) / width) * ratio);
    this.paint();
  }

  paint() {
    if (!this.data || !this.image.complete) return;
    const token = this.hover ?? this.view.token;
    const { depths, grid } = this.data;
    const { depth } = this.view;
    const lowOf = (at) => (this.view.own ? depths[at].low : this.low);
    this.draw(this.canvas, this.laid(depth, token, lowOf(depth)), ALPHA, token);
    for (const { kind, depth: at, canvas, cell } of this.cells) {
      if (kind === "similarity") this.draw(canvas, this.laid(at, token, lowOf(at)), 1, token);
      else if (this.colours[at].complete) this.draw(canvas, this.colours[at], 1, token);
      cell.classList.toggle("tae-shown", at === depth && kind === "similarity");
    }
    const values = this.similar[depth].subarray(token * grid[0] * grid[1], (token + 1) * grid[0] * grid[1]);
    let best = -1;
    for (let i = 0; i < values.length; i++) if (i !== token && (best < 0 || values[i] > values[best])) best = i;
    const place = (one) => `patch ${one} (row ${Math.floor(one / grid[1])}, column ${one % grid[1]})`;
    const like = best < 0 ? "" : ` · most alike: ${place(best)}, cosine ${((2 * values[best]) / 255 - 1).toFixed(2)}`;
    this.caption.textContent = depths[depth].name;
    this.readout.textContent = `${place(token)}${like} · colours from ${lowOf(depth).toFixed(2)} to 1, dark = alike`.replaceAll("-", "−");
    this.own.setAttribute("aria-pressed", String(this.view.own));
    this.canvas.setAttribute("aria-label", `${depths[depth].name}: ${this.readout.textContent}. Arrows move the patch, [ and ] change the depth.`);
    this.root.dataset.token = String(token);
    this.root.dataset.depth = String(depth);
  }

  /** The similarity of all patches to one, a pixel a patch. */
  laid(depth, token, low) {
    const [rows, columns] = this.data.grid;
    const { ramp } = this.data;
    const made = (this.small ??= make("canvas"));
    Object.assign(made, { width: columns, height: rows });
    const context = made.getContext("2d");
    const pixels = context.createImageData(columns, rows);
    const values = this.similar[depth];
    for (let i = 0; i < rows * columns; i++) {
      const cosine = (2 * values[token * rows * columns + i]) / 255 - 1;
      const share = low < 1 ? Math.max(0, Math.min(1, (cosine - low) / (1 - low))) : 1;
      pixels.data.set([...ramp[Math.round(share * (ramp.length - 1))], 255], 4 * i);
    }
    context.putImageData(pixels, 0, 0);
    return made;
  }

  draw(canvas, small, alpha, token) {
    const { size, tile, grid, query } = this.data;
    const [height, width] = size;
    const context = canvas.getContext("2d");
    const scale = canvas.width / width;
    context.globalAlpha = 1;
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (alpha < 1) {
      context.drawImage(this.image, 0, 0, canvas.width, canvas.height);
      context.fillStyle = `rgba(255, 255, 255, ${VEIL})`;
      context.fillRect(0, 0, canvas.width, canvas.height);
    }
    context.globalAlpha = alpha;
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, width / tile[1], height / tile[0], 0, 0, canvas.width, canvas.height);
    context.globalAlpha = 1;
    context.strokeStyle = query;
    context.lineWidth = Math.max(1.5, scale);
    const [row, column] = [Math.floor(token / grid[1]), token % grid[1]];
    const side = [Math.min(tile[1], width - column * tile[1]), Math.min(tile[0], height - row * tile[0])];
    context.strokeRect(...[column * tile[1], row * tile[0], ...side].map((length) => length * scale));
  }
}

const features = mounting(Features);

export default features;
