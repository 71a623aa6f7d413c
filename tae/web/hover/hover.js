/* The image of the point under the pointer, beside Plotly's own label; tells which point was clicked, -1 for a double
 * click.
 *
 * data: {beside: class of the element that holds the plot, sheets: [{url, first, count, columns, width, height}]}: sheet
 * i holds the images of the points numbered first to first + count - 1, row by row, in cells of width x height pixels.
 * A point's number is its customdata. No text that comes in becomes HTML.
 */

const numberOf = (points) => Number([points[0].customdata].flat()[0]);

class Hover {
  constructor(parent) {
    this.box = make("div", { className: "tae-hover", hidden: true });
    parent.append(this.box);
    this.hide = () => (this.box.hidden = true);
    const acts = {
      plotly_hover: (event) => this.open(event),
      plotly_unhover: this.hide,
      plotly_click: ({ points }) => this.tell(numberOf(points)),
      plotly_deselect: () => this.tell(-1),
    };
    this.listener = new PlotListener(() => `.${this.data.beside} .js-plotly-plot`, acts, (plot) => {
      this.hide();
      plot?.addEventListener("mouseleave", this.hide);
    });
  }

  update({ data, setTriggerValue }) {
    this.data = data;
    this.tell = (number) => setTriggerValue("clicked", number);
    this.listener.bind();
  }

  open({ points, event }) {
    const number = numberOf(points);
    const sheet = this.data.sheets.find(({ first, count }) => number >= first && number < first + count);
    if (!sheet || !event) return this.hide();
    const place = number - sheet.first;
    const { width, height, columns } = sheet;
    const zoom = Math.max(1, Math.floor(128 / width));
    Object.assign(this.box.style, {
      width: `${width * zoom}px`,
      height: `${height * zoom}px`,
      backgroundImage: `url(${sheet.url})`,
      backgroundSize: `${columns * width * zoom}px auto`,
      backgroundPosition: `-${(place % columns) * width * zoom}px -${Math.floor(place / columns) * height * zoom}px`,
      left: `${Math.min(event.clientX + 16, window.innerWidth - width * zoom - 12)}px`,
      top: `${Math.min(event.clientY + 26, window.innerHeight - height * zoom - 12)}px`,
    });
    this.box.dataset.number = String(number);
    this.box.hidden = false;
  }

  close() {
    this.listener.close();
    this.box.remove();
  }
}

const hover = mounting(Hover);

export default hover;
