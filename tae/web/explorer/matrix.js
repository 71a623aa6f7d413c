/* The matrix beside the explorer, a heatmap of Plotly's elsewhere on the page: the row under the pointer is the patch on
 * the image, and the patch on the image is a line along its row, or its column where it is the key.
 */

const MATRIX = "[class*='st-key-attention_map_'] .js-plotly-plot";
const PATCH = /^(\d+) \(row/; // "84 (row 6, column 6)": a cell that is one patch

class Matrix {
  /** act: {point(token or null)}. */
  constructor(act) {
    this.line = make("div", { hidden: true });
    this.line.dataset.taeRow = "";
    const acts = {
      plotly_hover: ({ points }) => {
        const found = PATCH.exec(points[0].y);
        if (found) act.point(Number(found[1]));
      },
      plotly_unhover: () => act.point(null),
    };
    this.listener = new PlotListener(() => MATRIX, acts, (plot) => {
      this.line.remove();
      plot?.querySelector(".plot-container").append(this.line);
      this.mark(this.token, this.isKey);
    });
  }

  close() {
    this.listener.close();
  }

  /** The line along the row of a patch, or its column, where the matrix shows that patch by itself. */
  mark(token, isKey) {
    Object.assign(this, { token, isKey });
    const { xaxis, yaxis } = this.listener.plot?._fullLayout ?? {};
    const axis = isKey ? xaxis : yaxis;
    const place = axis?._categories?.find((name) => PATCH.exec(name)?.[1] === String(token));
    this.line.hidden = place === undefined;
    if (place === undefined) return;
    const at = axis._offset + axis.d2p(place) - 1;
    Object.assign(this.line.style, {
      position: "absolute",
      top: `${isKey ? yaxis._offset : at}px`,
      left: `${isKey ? at : xaxis._offset}px`,
      width: `${isKey ? 2 : xaxis._length}px`,
      height: `${isKey ? yaxis._length : 2}px`,
      background: this.colour,
      pointerEvents: "none",
    });
  }
}
