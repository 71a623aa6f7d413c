/* Two images of one size, one laid over the other: how much of each is seen follows the pointer or the arrow keys.
 *
 * data: {before, after}, each {title, alt, image}.
 */

class Slide {
  constructor(parent) {
    this.root = make("div", { className: "tae-component tae-slide" });
    this.titles = [make("span"), make("span")];
    this.images = [make("img", { draggable: false }), make("img", { draggable: false })];
    this.range = make("input", { type: "range", min: 0, max: 100, value: 50, oninput: () => this.show() });
    this.root.append(make("p", {}, ...this.titles), make("div", {}, ...this.images, this.range));
    parent.append(this.root);
    this.show();
  }

  close() {
    this.root.remove();
  }

  update({ data }) {
    const sides = [data.before, data.after];
    sides.forEach(({ title, alt, image }, i) => {
      this.titles[i].textContent = title;
      Object.assign(this.images[i], { alt, src: image });
    });
    this.range.setAttribute("aria-label", `${data.before.title}, left of the line, against ${data.after.title}`);
  }

  show() {
    this.root.style.setProperty("--at", `${this.range.value}%`);
    this.range.setAttribute("aria-valuetext", `the line at ${this.range.value}%`);
  }
}

const slide = mounting(Slide);

export default slide;
