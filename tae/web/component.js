/* What components share; it stands before each one's own script (tae/web/component.py). */

/** A new element with properties, or attributes where a name is one, and children. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

const ARROWS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

/** Sentences above all else; "error" is red. */
const notesOf = (notes) =>
  notes.map(({ text, severity }) => make("p", { className: `tae-note tae-${severity}`, textContent: text }));

/** A closed list of [term, meaning]. */
function closedList(title, pairs, properties = {}) {
  const terms = pairs.flatMap(([term, what]) => [make("dt", { textContent: term }), make("dd", { textContent: what })]);
  return make("details", properties, make("summary", { textContent: title }), make("dl", {}, ...terms));
}

/** Put children in their place, but leave alone those that stand there already; true where something changed. */
function setChildren(parent, elements) {
  const now = [...parent.children];
  if (elements.length === now.length && elements.every((element, i) => element === now[i])) return false;
  parent.replaceChildren(...elements);
  return true;
}

/** Pixels of the screen for one of the page. */
const pixelRatio = () => window.devicePixelRatio || 1;

/** Pixels are enlarged by whole numbers, so that all are of one size, unless much room would be left empty. */
const evenly = (scale) => (Math.floor(scale) >= 0.75 * scale ? Math.floor(scale) : scale);

/** Give a canvas (width, height) pixels of the screen, at least one each; returns its size on the page. */
function sizeCanvas(canvas, ...size) {
  const [width, height] = size.map((side) => Math.max(1, Math.round(side)));
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const shown = { width: width / pixelRatio(), height: height / pixelRatio() };
  canvas.style.width = `${shown.width}px`;
  canvas.style.height = `${shown.height}px`;
  return shown;
}

/** Lay a component out anew when the width of its root changes; it tells in `laidOut` for which it was. */
function watchWidth(component) {
  const observer = new ResizeObserver(() => {
    if (component.data && Math.abs(component.root.clientWidth - component.laidOut) >= 1) component.layOut();
  });
  observer.observe(component.root);
  return observer;
}

/** Listens to a plot of Plotly's elsewhere on the page, which Streamlit makes anew now and then. */
class PlotListener {
  /** selector: () => CSS; acts: {event: what to do}; changed(plot or null) hears of each other one. */
  constructor(selector, acts, changed) {
    Object.assign(this, { selector, changed, acts: Object.entries(acts), plot: null });
    this.timer = setInterval(() => this.bind(), 300);
  }

  bind() {
    const plot = document.querySelector(this.selector());
    if (plot === this.plot || (plot && !plot.on)) return;
    this.unbind();
    this.plot = plot;
    if (!plot) return;
    for (const act of this.acts) plot.on(...act);
    this.changed(plot);
  }

  unbind() {
    if (!this.plot) return;
    // Plotly takes these methods away from a plot that it has given up.
    for (const act of this.acts) this.plot.removeListener?.(...act);
    this.plot = null;
    this.changed(null);
  }

  close() {
    clearInterval(this.timer);
    this.unbind();
  }
}

/** What Streamlit calls, with the same parent, whenever a component's data or theme changes; the last cleanup counts. */
function mounting(Kind) {
  const mounted = new WeakMap();
  return (component) => {
    const { parentElement } = component;
    if (!mounted.has(parentElement)) mounted.set(parentElement, new Kind(parentElement));
    mounted.get(parentElement).update(component);
    return () => {
      mounted.get(parentElement)?.close();
      mounted.delete(parentElement);
    };
  };
}

