/* The player of sequences: the current frame of several rows side by side, and all frames as a film strip below.
 *
 * Streamlit calls the default export with its component object on every render. What comes in is described in
 * tae/web/player/payload.py. Nothing is fetched, and no text that comes in ever becomes HTML.
 *
 * Words: a row is one way to see the sequence (true frames, predictions); a frame is a moment of it, from 0 here and from 1
 * on the screen.
 */

const REST_MS = 300; // a frame that has rested is told to the server
const HANDS_OFF_MS = 2000; // the strip stays where a person scrolled it
const MAX_HEIGHT = 560; // of all images together, in pixels of the page, so that a window of 900 has the controls too
const MIN_WIDTH = 120; // of one image
const WORTH_A_LINE = 1.1; // how much larger images must become to stand in more lines
const GAP = 16;
const TEXT_HEIGHT = 50; // what stands above and below an image
const THUMB = [200, 64]; // the box of an image in the strip, width and height
const SPEEDS = [0.25, 0.5, 1, 2, 4];
const KEYS = [
  ["Space", "play or pause"],
  ["← →", "frame before, after"],
  ["Home, End", "first, last frame"],
];
const STEPS = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };

/* What outlives one mounting: frame, chosen rows and speed, by the player's memory. */
const remembered = new Map();

// --------------------------------------------------------------------------------------------------------------- words

/** Three significant digits. */
function number(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1000) return String(Math.round(value));
  if (size >= 0.0001) return value.toPrecision(3);
  const [digits, power] = value.toExponential(2).split("e");
  return `${digits}×10${[...power].map((letter) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[letter] || "⁻").join("")}`;
}

const frameWords = (frame, count) => `frame ${frame + 1} of ${count}`;

/* Outlines of the buttons' signs in a square of 24: letters for them look different on every machine. */
const SIGNS = { play: "M7 4v16l13-8z", pause: "M6 4h4v16H6zM14 4h4v16h-4z", back: "M17 5v14L6 12z", next: "M7 5v14l11-7z" };

function sign(name) {
  const [svg, path] = ["svg", "path"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", SIGNS[name]);
  svg.append(path);
  return svg;
}

// ---------------------------------------------------------------------------------------------------------------- rows

/** A row with its images: one image for each frame that it has, which the strip shows and the player draws from. */
class Row {
  constructor(given, bytes, onload) {
    Object.assign(this, given);
    let at = 0;
    this.images = given.sizes.map((size) => {
      const src = URL.createObjectURL(new Blob([bytes.subarray(at, at + size)], { type: "image/png" }));
      at += size;
      return make("img", { alt: "", decoding: "async", draggable: false, onload, src });
    });
    this.bytes = at;
  }

  /** Of a frame, or null where this row has none. */
  imageAt(frame) {
    return this.images[frame - this.first] || null;
  }

  errorAt(frame) {
    const error = this.errors[frame - this.first];
    return error === undefined ? null : error;
  }

  close() {
    for (const image of this.images) URL.revokeObjectURL(image.src);
  }
}

/** An even scale in pixels of the page. */
const evenScale = (scale) => evenly(scale * pixelRatio()) / pixelRatio();

/** One row's current frame, large. */
class Screen {
  constructor(row, [height, width]) {
    Object.assign(this, { row, height, width });
    this.canvas = make("canvas", { className: "tae-canvas", role: "img" });
    this.context = this.canvas.getContext("2d");
    this.missing = make("span", { className: "tae-missing", hidden: true });
    this.unit = make("span", { className: "tae-error-name" });
    this.value = make("span");
    this.error = make("p", { className: "tae-error-now" }, this.unit, this.value);
    const caption = make("figcaption", { textContent: row.name, title: row.help });
    this.box = make("div", { className: "tae-frame" }, this.canvas, this.missing);
    this.element = make("figure", {}, caption, this.box, this.error);
  }

  resize(scale) {
    this.scale = scale * pixelRatio(); // in pixels of the screen
    const { width } = sizeCanvas(this.canvas, this.width * this.scale, this.height * this.scale);
    this.element.style.width = `${Math.max(width, MIN_WIDTH)}px`;
    this.box.style.width = `${width}px`;
  }

  /** Draw a frame; false where its image is not decoded yet. */
  paint(frame, errorName) {
    const { canvas, context, row } = this;
    const image = row.imageAt(frame);
    const isReady = Boolean(image) && image.complete && image.naturalWidth > 0;
    if (isReady) {
      context.imageSmoothingEnabled = this.scale < 1;
      context.imageSmoothingQuality = "high";
      context.drawImage(image, 0, 0, canvas.width, canvas.height);
    } else context.clearRect(0, 0, canvas.width, canvas.height);
    this.box.dataset.missing = String(!image);
    this.missing.hidden = Boolean(image);
    this.missing.textContent = `– no frame ${frame + 1}`;
    const error = row.errorAt(frame);
    this.unit.textContent = this.error.title = error === null ? "" : errorName;
    this.value.textContent = error === null ? "" : ` ${number(error)}`;
    canvas.setAttribute("aria-label", `${row.name}, frame ${frame + 1}${image ? "" : ": none"}`);
    return isReady || !image;
  }
}

// -------------------------------------------------------------------------------------------------------------- player

class Player {
  constructor(parent) {
    this.data = null;
    this.rows = [];
    this.at = 0; // the current frame
    this.speed = 1;
    this.isPlaying = false;
    this.handsOff = 0; // until when the strip is left alone
    this.root = make("div", { className: "tae-component tae-player", onkeydown: (event) => this.onKey(event) });
    parent.append(this.root);
    this.observer = watchWidth(this);
  }

  close() {
    this.isPlaying = false;
    if (this.resting) this.send();
    cancelAnimationFrame(this.drawing);
    cancelAnimationFrame(this.running);
    this.observer.disconnect();
    for (const row of this.rows) row.close();
    this.root.remove();
  }

  // -- what comes in

  update({ data, setStateValue }) {
    if (!data || !data.rows) return;
    const before = this.data;
    this.tell = setStateValue;
    this.data = data;
    const kept = !before && data.memory ? remembered.get(data.memory) : null;
    if (kept) [this.chosen, this.speed] = [kept.chosen, kept.speed];
    const last = before ? { digest: before.digest, revision: before.revision, frame: this.at } : kept;
    const isSame = Boolean(last) && last.digest === data.digest && last.revision === data.revision;
    // Another frame, or another sequence: it stops, and what was about to be told is of the past.
    if (!isSame) {
      this.stop();
      this.told = this.toTell(data.frame);
    }
    this.at = isSame ? last.frame : data.frame;
    const shape = JSON.stringify([data.digest, data.rows]);
    if (shape !== this.shape) this.build();
    this.shape = shape;
    // What the browser draws by itself, the slider and the scrollbar, follows the page's theme, not the system's.
    const [red, green, blue] = getComputedStyle(this.root).color.match(/[\d.]+/g).map(Number);
    this.root.style.colorScheme = red + green + blue > 384 ? "dark" : "light";
    this.notes.replaceChildren(...notesOf(data.notes));
    this.showSpeeds();
    if (kept && isSame) this.rest(); // the server may have forgotten it
    this.show();
  }

  // -- what goes out

  /** Tell the server the frame once it has rested; while it plays, nothing is told. */
  rest() {
    clearTimeout(this.resting);
    this.resting = this.isPlaying ? 0 : setTimeout(() => this.send(), REST_MS);
  }

  send() {
    clearTimeout(this.resting);
    this.resting = 0;
    this.live.textContent = this.inWords();
    const text = this.toTell(this.at);
    if (text === this.told) return;
    this.told = text;
    this.tell("frame", JSON.parse(text));
  }

  toTell(frame) {
    const { digest, revision } = this.data;
    return JSON.stringify({ digest, revision, frame });
  }

  remember() {
    const { digest, revision, memory } = this.data;
    if (memory) remembered.set(memory, { digest, revision, frame: this.at, chosen: this.chosen, speed: this.speed });
  }

  // -- what is on the page

  build() {
    const { data } = this;
    for (const row of this.rows) row.close();
    const bytes = data.images.getChildAt(0).toArray();
    let start = 0;
    this.rows = data.rows.map((given) => {
      const row = new Row(given, bytes.subarray(start), () => this.showSoon());
      start += row.bytes;
      return row;
    });
    this.screens = this.rows.map((row) => new Screen(row, data.size));
    // A person's choice of rows stays, by their names, when another sequence comes.
    this.chosen = { ...Object.fromEntries(data.rows.map((row) => [row.name, row.is_shown])), ...this.chosen };
    if (!data.rows.some((row) => this.chosen[row.name])) this.chosen[data.rows[0].name] = true;
    this.notes = make("div", { className: "tae-notes" });
    this.live = make("p", { className: "tae-live", role: "status" });
    this.stage = make("div", {
      className: "tae-stage",
      tabIndex: 0,
      role: "group",
      "aria-label": "The current frame of each chosen row. Space plays and pauses, arrow keys step.",
    });
    const strip = this.strip();
    this.root.replaceChildren(this.notes, this.stage, this.controls(), this.toggles(), strip, this.help(), this.live);
    this.column = -1;
    this.layOut();
  }

  toggles() {
    this.buttons = this.rows.map(({ name, help }) =>
      make("button", { type: "button", textContent: name, title: help, onclick: () => this.toggle(name) }),
    );
    const label = make("span", { className: "tae-label", textContent: "Show large" });
    const group = make("div", { className: "tae-rows", role: "group", "aria-label": "Rows to show large" }, ...this.buttons);
    return make("div", { className: "tae-choice" }, label, group);
  }

  controls() {
    const { count } = this.data;
    const button = (className, name, title, onclick) =>
      make("button", { type: "button", className, title, "aria-label": title, onclick }, sign(name));
    this.play = button("tae-play", "play", "Play", () => (this.isPlaying ? this.pause() : this.start()));
    this.play.disabled = count === 1;
    const back = button("tae-step", "back", "Frame before", () => this.step(-1));
    const next = button("tae-step", "next", "Frame after", () => this.step(1));
    const oninput = () => this.choose(Number(this.scrub.value) - 1);
    this.scrub = make("input", { type: "range", min: 1, max: count, step: 1, "aria-label": "Frame", oninput });
    this.words = make("span", { className: "tae-words" });
    this.words.style.minWidth = `${frameWords(count - 1, count).length}ch`;
    this.role = make("span", { className: "tae-role", hidden: this.data.seen === null });
    const onchange = () => {
      this.speed = Number(this.speeds.value);
      this.remember();
    };
    this.speeds = make("select", { "aria-label": "Speed", onchange });
    const said = make("div", { className: "tae-said" }, this.words, this.role);
    return make("div", { className: "tae-controls" }, this.play, back, next, this.scrub, said, this.speeds);
  }

  /** One line for each row, one column for each frame. */
  strip() {
    const { count, seen, size, error_name: errorName } = this.data;
    const [height, width] = size;
    const fit = Math.min(THUMB[0] / width, THUMB[1] / height);
    const scale = fit >= 1 ? Math.floor(fit) : fit;
    const box = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
    this.columns = Array.from({ length: count }, () => []);
    const frames = [...this.columns.keys()];
    const mark = (cell, frame) => {
      cell.dataset.frame = frame;
      if (frame === seen && seen > 0) cell.classList.add("tae-predicted-first");
      this.columns[frame].push(cell);
      return cell;
    };
    this.heads = frames.map((frame) => {
      const label = `Go to frame ${frame + 1}`;
      return make("button", { type: "button", textContent: frame + 1, title: label, "aria-label": label, tabIndex: -1 });
    });
    const head = frames.map((frame) => mark(make("th", { scope: "col" }, this.heads[frame]), frame));
    const lines = this.rows.map((row) => {
      const isMeasured = row.errors.some((error) => error !== null);
      const cells = frames.map((frame) => mark(this.cell(row, frame, box, isMeasured), frame));
      const unit = make("span", { className: "tae-unit", textContent: isMeasured ? errorName : "" });
      return make("tr", {}, make("th", { scope: "row", title: row.help }, row.name, unit), ...cells);
    });
    const onclick = ({ target }) => {
      const cell = target.closest("[data-frame]");
      if (!cell) return;
      this.choose(Number(cell.dataset.frame));
      // So that the keys go on from there; a button has the focus already.
      if (!target.closest("button")) this.stage.focus({ preventScroll: true });
    };
    const top = make("tr", {}, make("th", { scope: "row", textContent: "Frame" }), ...head);
    const table = make("table", { onclick }, make("thead", {}, ...this.parts(), top), make("tbody", {}, ...lines));
    this.film = make("div", { className: "tae-film", role: "region", "aria-label": "Film strip of all frames" }, table);
    this.film.style.setProperty("--thumb-width", `${box[0]}px`);
    this.film.style.setProperty("--thumb-height", `${box[1]}px`);
    this.film.dataset.enlarged = String(scale >= 1);
    for (const event of ["wheel", "pointerdown", "touchmove"]) {
      this.film.addEventListener(event, () => (this.handsOff = performance.now() + HANDS_OFF_MS), { passive: true });
    }
    return this.film;
  }

  /** "seen | to be predicted", where both are there. */
  parts() {
    const { count, seen } = this.data;
    if (!seen || seen === count) return [];
    const part = (colSpan, textContent, className) =>
      make("th", { scope: "colgroup", colSpan, className }, make("span", { textContent }));
    const before = part(seen, "seen by the model", "tae-seen");
    const after = part(count - seen, "to be predicted", "tae-predicted-first");
    return [make("tr", { className: "tae-parts" }, make("td"), before, after)];
  }

  cell(row, frame, [width, height], isMeasured) {
    const image = row.imageAt(frame);
    const about = `${row.name}, frame ${frame + 1}`;
    if (!image) {
      const empty = make("span", { className: "tae-none", textContent: "–", "aria-label": `no frame ${frame + 1}` });
      return make("td", { title: `${about}: there is none` }, empty);
    }
    Object.assign(image, { width, height, alt: about });
    if (!isMeasured) return make("td", {}, image);
    const error = row.errorAt(frame);
    return make("td", {}, image, make("span", { className: "tae-figure", textContent: error === null ? "" : number(error) }));
  }

  help() {
    const rows = this.rows.map((row) => [row.name, row.help]);
    return make("div", { className: "tae-help" }, closedList("What the rows are", rows), closedList("Shortcuts", KEYS));
  }

  showSpeeds() {
    const perSecond = (speed) => number((speed * 1000) / this.data.frame_ms).replace(/\.?0+$/, "");
    this.speeds.replaceChildren(
      ...SPEEDS.map((speed) => make("option", { value: speed, textContent: `${speed}× · ${perSecond(speed)} a second` })),
    );
    this.speeds.value = String(this.speed);
  }

  /** All images get one size, as large as the room allows; they stand side by side unless lines make them much larger. */
  layOut() {
    const width = this.root.clientWidth;
    this.laidOut = width;
    if (!width) return;
    const [down, across] = this.data.size;
    const shown = this.screens.filter(({ row }) => this.chosen[row.name]);
    const spare = window.innerHeight < 1000 ? window.innerHeight - 250 : 720; // what the controls leave
    const high = Math.max(220, Math.min(window.innerHeight < 1000 ? MAX_HEIGHT : 720, spare));
    let [scale, columns] = [0, 1];
    for (let lines = 1; lines <= shown.length; lines++) {
      const count = Math.ceil(shown.length / lines);
      const wide = (width - GAP * (count - 1)) / count;
      const tall = (high - GAP * (lines - 1)) / lines - TEXT_HEIGHT;
      const fit = evenScale(Math.min(wide / across, tall / down));
      if (fit > WORTH_A_LINE * scale) [scale, columns] = [fit, count];
    }
    if (scale * across < MIN_WIDTH) {
      columns = Math.max(1, Math.floor((width + GAP) / (MIN_WIDTH + GAP)));
      scale = Math.max(scale, Math.min(MIN_WIDTH, width) / across);
    }
    this.stage.style.gridTemplateColumns = `repeat(${columns}, max-content)`;
    for (const screen of shown) screen.resize(evenScale(scale));
    setChildren(this.stage, shown.map((screen) => screen.element));
    this.show();
  }

  // -- what a person does

  toggle(name) {
    const shown = this.rows.filter((row) => this.chosen[row.name]);
    if (shown.length === 1 && shown[0].name === name) return; // one stays
    this.chosen = { ...this.chosen, [name]: !this.chosen[name] };
    this.layOut();
  }

  start() {
    if (this.isPlaying || this.data.count === 1) return;
    this.isPlaying = true;
    clearTimeout(this.resting);
    this.resting = 0;
    let last = performance.now();
    const run = (now) => {
      if (!this.isPlaying) return;
      const pace = this.data.frame_ms / this.speed;
      const steps = Math.floor((now - last) / pace);
      if (steps > 0) {
        last = steps > 3 ? now : last + steps * pace; // after a pause of the browser's it goes on where it was
        this.at = (this.at + (steps > 3 ? 1 : steps)) % this.data.count; // in a circle
        this.show();
      }
      this.running = requestAnimationFrame(run);
    };
    this.running = requestAnimationFrame(run);
    this.show();
  }

  stop() {
    this.isPlaying = false;
    cancelAnimationFrame(this.running);
    clearTimeout(this.resting);
    this.resting = 0;
  }

  pause() {
    this.stop();
    this.rest();
    this.show();
  }

  step(by) {
    this.choose(this.at + by);
  }

  /** Go to a frame; it stops playing, for who chooses a frame wants to see it. */
  choose(frame) {
    this.stop();
    this.at = Math.max(0, Math.min(this.data.count - 1, frame));
    this.rest();
    this.show();
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const [target] = event.composedPath();
    if (target instanceof HTMLSelectElement) return;
    const isButton = target instanceof HTMLButtonElement && !target.closest("th") && target !== this.play;
    const isOwn = isButton || target.tagName === "SUMMARY"; // space presses these
    if (event.key === " " && !isOwn) {
      if (!event.repeat) this.isPlaying ? this.pause() : this.start();
    } else if (event.key in STEPS) {
      this.step(STEPS[event.key]);
      if (this.heads.includes(target)) this.heads[this.at].focus({ preventScroll: true });
    } else return;
    event.preventDefault();
    event.stopPropagation(); // Streamlit has shortcuts of its own, and so has the demo
  }

  // -- painting

  showSoon() {
    if (this.drawing) return;
    this.drawing = requestAnimationFrame(() => {
      this.drawing = 0;
      this.show();
    });
  }

  inWords() {
    const { count, error_name: errorName } = this.data;
    const about = this.rows
      .filter((row) => this.chosen[row.name])
      .map((row) => {
        const error = row.errorAt(this.at);
        if (!row.imageAt(this.at)) return `${row.name}: none`;
        return error === null ? row.name : `${row.name}: ${errorName} ${number(error)}`;
      });
    return `${frameWords(this.at, count)}. ${about.join("; ")}`;
  }

  show() {
    const { data, at } = this;
    if (!this.laidOut) return;
    const shown = this.screens.filter(({ row }) => this.chosen[row.name]);
    const ready = shown.map((screen) => screen.paint(at, data.error_name));
    this.rows.forEach((row, i) => this.buttons[i].setAttribute("aria-pressed", String(Boolean(this.chosen[row.name]))));
    const label = this.isPlaying ? "Pause" : "Play";
    if (this.play.title !== label) {
      this.play.title = label;
      this.play.replaceChildren(sign(label.toLowerCase()));
      this.play.setAttribute("aria-label", label);
    }
    this.scrub.value = String(at + 1);
    this.scrub.setAttribute("aria-valuetext", frameWords(at, data.count));
    this.words.textContent = frameWords(at, data.count);
    this.role.textContent = data.seen === null ? "" : at < data.seen ? "seen by the model" : "to be predicted";
    this.showColumn();
    this.remember();
    Object.assign(this.root.dataset, {
      frame: String(at + 1),
      playing: String(this.isPlaying),
      digest: data.digest,
      state: ready.every(Boolean) ? "ready" : "loading",
    });
  }

  /** Mark the current column and bring it into the strip's own view; the page is never scrolled. */
  showColumn() {
    const { at, film } = this;
    if (at === this.column) return;
    for (const cell of this.columns[this.column] || []) cell.classList.remove("tae-current");
    if (this.column >= 0) {
      this.heads[this.column].tabIndex = -1;
      this.heads[this.column].removeAttribute("aria-current");
    }
    for (const cell of this.columns[at]) cell.classList.add("tae-current");
    this.heads[at].tabIndex = 0;
    this.heads[at].setAttribute("aria-current", "true");
    this.column = at;
    if (performance.now() < this.handsOff && this.isPlaying) return;
    const label = film.querySelector("tbody th").getBoundingClientRect();
    const cell = this.columns[at][0].getBoundingClientRect();
    const right = film.getBoundingClientRect().left + film.clientWidth;
    const margin = 0.5 * cell.width; // a part of the neighbour shows that there is one
    if (cell.left - margin < label.right) film.scrollLeft -= label.right - cell.left + margin;
    else if (cell.right + margin > right) film.scrollLeft += cell.right + margin - right;
  }
}

const player = mounting(Player);

export default player;
