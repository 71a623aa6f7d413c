/* An image with its patches, of which some are chosen: a click adds a patch or takes it out, a box adds all that it
 * touches, with Shift it takes them out; arrows and the space bar do the same without a pointer.
 *
 * data: {image: URL, size: [height, width], tile: [height, width] of a patch in pixels, grid: [rows, columns],
 * chosen: [patch, ...], edit: number of the last choice that the server has heard of, label}. What is chosen goes out as
 * {edit, patches}. The browser draws a choice at once; answers to earlier choices are passed over. No text that comes in
 * becomes HTML.
 */

const MIN_PATCH = 10; // side of a patch on the screen: an image that would have smaller ones is scrolled sideways
const MAX_HEIGHT = 440;
const DRAG = 4; // pixels that the pointer moves before a click becomes a box
const BLUE = "#0091d5"; // on a white rim: seen on black, on white and on every grey between
const ORANGE = "#d55e00";

class Picker {
  constructor(parent) {
    this.chosen = new Set();
    this.edit = -1;
    this.cursor = 0; // the patch that keys are about
    this.hovered = null;
    this.start = null; // where the pointer went down
    this.box = null; // [row, column, row, column] that is being drawn, and whether it takes out
    this.canvas = make("canvas", { tabIndex: 0, role: "img" });
    this.context = this.canvas.getContext("2d");
    this.count = make("span", { "aria-live": "polite" });
    this.place = make("span", { className: "tae-place" });
    this.scroller = make("div", { className: "tae-scroller" }, this.canvas);
    this.root = make(
      "div",
      { className: "tae-component tae-patches" },
      this.scroller,
      make("p", {}, this.count, this.place),
    );
    parent.append(this.root);
    this.image = new Image();
    this.image.addEventListener("load", () => this.paint());
    const listen = (name, act) => this.canvas.addEventListener(name, (event) => this.data && act.call(this, event));
    listen("pointerdown", this.onDown);
    listen("pointermove", this.onMove);
    listen("pointerup", this.onUp);
    listen("pointercancel", this.letGo);
    listen("pointerleave", () => this.hover(null));
    listen("keydown", this.onKey);
    listen("focus", this.paint);
    listen("blur", this.paint);
    this.observer = new ResizeObserver(() => this.layOut());
    this.observer.observe(this.root);
  }

  close() {
    this.observer.disconnect();
    this.root.remove();
  }

  update({ data, setStateValue }) {
    if (!data || !data.grid) return;
    const isFirst = !this.data;
    this.data = data;
    this.tell = (choice) => setStateValue("chosen", choice);
    if (data.edit >= this.edit) {
      this.edit = data.edit;
      this.chosen = new Set(data.chosen);
    }
    if (this.image.src !== data.image) this.image.src = data.image;
    const [rows, columns] = data.grid;
    if (this.cursor >= rows * columns) this.cursor = 0;
    if (isFirst && data.chosen.length) this.cursor = data.chosen[0];
    this.canvas.setAttribute("aria-label", data.label);
    this.say();
    this.layOut();
  }

  // -- choices

  send() {
    this.edit += 1;
    this.tell({ edit: this.edit, patches: [...this.chosen].sort((a, b) => a - b) });
    this.say();
    this.paint();
  }

  toggle(patch) {
    if (!this.chosen.delete(patch)) this.chosen.add(patch);
    this.send();
  }

  /** What would be chosen if the box were let go now. */
  preview() {
    if (!this.box) return this.chosen;
    const after = new Set(this.chosen);
    const [top, left, bottom, right] = this.box.cells;
    for (let row = top; row <= bottom; row++)
      for (let column = left; column <= right; column++) {
        const patch = row * this.data.grid[1] + column;
        if (this.box.takes) after.delete(patch);
        else after.add(patch);
      }
    return after;
  }

  // -- pointer and keys

  pointOf(event) {
    const corner = this.canvas.getBoundingClientRect();
    return [(event.clientY - corner.top) / this.scale, (event.clientX - corner.left) / this.scale]; // in the image's pixels
  }

  cellOf(point) {
    return point.map((at, axis) =>
      Math.min(Math.max(Math.floor(at / this.data.tile[axis]), 0), this.data.grid[axis] - 1),
    );
  }

  onDown(event) {
    if (event.button !== 0) return;
    this.start = this.pointOf(event);
    if (event.pointerType !== "touch") this.canvas.setPointerCapture(event.pointerId); // a finger scrolls
  }

  onMove(event) {
    const at = this.pointOf(event);
    const [row, column] = this.cellOf(at);
    if (this.start && event.pointerType !== "touch") {
      const moved = Math.hypot(at[0] - this.start[0], at[1] - this.start[1]) * this.scale;
      if (this.box || moved > DRAG) {
        const [first, second] = this.cellOf(this.start);
        const cells = [Math.min(first, row), Math.min(second, column), Math.max(first, row), Math.max(second, column)];
        this.box = { cells, takes: event.shiftKey, at: [...this.start, ...at] };
      }
    }
    this.hover(row * this.data.grid[1] + column);
  }

  onUp(event) {
    if (!this.start) return;
    const patch = this.numberOf(this.cellOf(this.start));
    const isSame = patch === this.numberOf(this.cellOf(this.pointOf(event)));
    const after = this.box ? this.preview() : null;
    this.letGo();
    this.cursor = patch;
    if (after) {
      this.chosen = after;
      this.send();
    } else if (isSame) this.toggle(patch);
  }

  numberOf([row, column]) {
    return row * this.data.grid[1] + column;
  }

  letGo() {
    this.start = this.box = null;
    this.paint();
  }

  hover(patch) {
    this.hovered = patch;
    this.place.textContent = patch === null ? "" : this.words(patch);
    this.paint();
  }

  onKey(event) {
    const [rows, columns] = this.data.grid;
    if (ARROWS[event.key]) {
      const [down, right] = ARROWS[event.key];
      const row = Math.min(Math.max(Math.floor(this.cursor / columns) + down, 0), rows - 1);
      const column = Math.min(Math.max((this.cursor % columns) + right, 0), columns - 1);
      this.cursor = this.numberOf([row, column]);
      this.place.textContent = this.words(this.cursor);
      const x = column * this.data.tile[1] * this.scale;
      const room = this.scroller.clientWidth;
      if (x < this.scroller.scrollLeft || x > this.scroller.scrollLeft + room - 2 * MIN_PATCH)
        this.scroller.scrollLeft = x - room / 2;
      this.paint();
    } else if (event.key === " " || event.key === "Enter") this.toggle(this.cursor);
    else if (event.key === "Escape" && this.start) this.letGo();
    else return;
    event.preventDefault();
  }

  // -- words and drawing

  words(patch) {
    const columns = this.data.grid[1];
    const state = this.chosen.has(patch) ? ", chosen" : "";
    return `patch ${patch}: row ${Math.floor(patch / columns)}, column ${patch % columns}${state}`;
  }

  say() {
    const total = this.data.grid[0] * this.data.grid[1];
    const rest = this.canvas.offsetWidth > this.scroller.clientWidth + 1 ? "; scroll sideways for the rest" : "";
    const chosen = this.chosen.size.toLocaleString("en");
    this.count.textContent = `${chosen} of ${total.toLocaleString("en")} patches chosen${rest}`;
  }

  layOut() {
    const room = this.root.clientWidth;
    if (!this.data || !room) return; // a closed section has none
    const [height, width] = this.data.size;
    const fits = Math.min(room / width, MAX_HEIGHT / height);
    this.scale = Math.max(fits, MIN_PATCH / Math.min(...this.data.tile));
    const zoom = this.scale * pixelRatio();
    sizeCanvas(this.canvas, width * zoom, height * zoom);
    this.say();
    this.paint();
  }

  /** [left, top, right, bottom] of a patch on the canvas: the last of a row or column may be cut. */
  edges(patch, zoom) {
    const { grid, size, tile } = this.data;
    const [row, column] = [Math.floor(patch / grid[1]), patch % grid[1]];
    const clip = (at, axis) => Math.min(at * tile[axis], size[axis]) * zoom;
    return [clip(column, 1), clip(row, 0), clip(column + 1, 1), clip(row + 1, 0)];
  }

  paint() {
    if (!this.data || !this.scale) return;
    const { canvas, context } = this;
    const { grid, size, tile } = this.data;
    const ratio = pixelRatio();
    const zoom = canvas.width / size[1];
    context.imageSmoothingEnabled = zoom < 1;
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (this.image.complete && this.image.naturalWidth)
      context.drawImage(this.image, 0, 0, canvas.width, canvas.height);

    const lines = new Path2D();
    const line = (path, ...[x0, y0, x1, y1]) => {
      path.moveTo(x0, y0);
      path.lineTo(x1, y1);
    };
    for (let row = 1; row < grid[0]; row++) {
      const y = Math.round(row * tile[0] * zoom) + 0.5;
      line(lines, 0, y, canvas.width, y);
    }
    for (let column = 1; column < grid[1]; column++) {
      const x = Math.round(column * tile[1] * zoom) + 0.5;
      line(lines, x, 0, x, canvas.height);
    }
    context.lineWidth = 1;
    context.strokeStyle = "rgba(138,143,153,0.5)";
    context.stroke(lines);

    // Chosen patches are hatched and their area is outlined, so that nobody needs the colour to tell them.
    const shown = this.preview();
    const [outline, hatch] = [new Path2D(), new Path2D()];
    context.fillStyle = "rgba(0,145,213,0.22)";
    for (const patch of shown) {
      const [left, top, right, bottom] = this.edges(patch, zoom);
      context.fillRect(left, top, right - left, bottom - top);
      line(hatch, left, bottom, right, top);
      const column = patch % grid[1];
      if (column === 0 || !shown.has(patch - 1)) line(outline, left, top, left, bottom);
      if (column === grid[1] - 1 || !shown.has(patch + 1)) line(outline, right, top, right, bottom);
      if (!shown.has(patch - grid[1])) line(outline, left, top, right, top);
      if (!shown.has(patch + grid[1])) line(outline, left, bottom, right, bottom);
    }
    context.lineCap = "square";
    this.trace(hatch, 1.2 * ratio, BLUE);
    this.trace(outline, 2.4 * ratio, BLUE);

    const frame = (patch, colour, width) => {
      const [left, top, right, bottom] = this.edges(patch, zoom);
      const path = new Path2D();
      path.rect(left, top, right - left, bottom - top);
      this.trace(path, width * ratio, colour);
    };
    if (this.hovered !== null && !this.box) frame(this.hovered, "#4a4f5a", 1.5);
    if (this.canvas.matches(":focus-visible")) frame(this.cursor, ORANGE, 2.5);
    if (this.box) {
      const [y0, x0, y1, x1] = this.box.at.map((at) => at * zoom);
      const path = new Path2D();
      path.rect(Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0));
      context.setLineDash([5 * ratio, 4 * ratio]);
      this.trace(path, 1.5 * ratio, "#1f2430");
      context.setLineDash([]);
    }
  }

  /** A line on a white rim. */
  trace(path, width, colour) {
    const { context } = this;
    context.lineWidth = 2 * width;
    context.strokeStyle = "rgba(255,255,255,0.85)";
    context.stroke(path);
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.stroke(path);
  }
}

const patches = mounting(Picker);

export default patches;
