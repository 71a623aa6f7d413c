/* A shelf of images: a row of thumbnails that scrolls, the chosen one marked; tells the key of the one that is clicked.
 *
 * data: {groups: [{title, items: [{key, title, note, figure, image}]}], chosen}. One Tab stop; the arrow keys move, Enter
 * chooses. No text that comes in becomes HTML.
 */

class Shelf {
  constructor(parent) {
    this.root = make("div", { className: "tae-component tae-shelf" });
    this.list = make("div", { className: "tae-shelf-list", role: "listbox", tabIndex: 0, "aria-label": "Images" });
    this.list.setAttribute("aria-orientation", "horizontal");
    this.list.onkeydown = (event) => this.onKey(event);
    this.list.onfocus = () => this.mark(this.at);
    this.root.append(this.list);
    parent.append(this.root);
    this.at = 0;
  }

  close() {
    this.root.remove();
  }

  update({ data, setStateValue }) {
    this.tell = setStateValue;
    const key = JSON.stringify(data);
    if (key === this.key) return;
    this.key = key;
    this.items = [];
    const groups = data.groups.map(({ title, items }) => {
      const shown = items.map((item) => this.thumbnail(item, data.chosen));
      return make("div", { className: "tae-shelf-group", role: "group", "aria-label": title }, make("p", { textContent: title }), make("div", {}, ...shown));
    });
    this.list.replaceChildren(...groups);
    this.at = Math.max(0, this.items.findIndex(({ key: name }) => name === data.chosen));
    const { element } = this.items[this.at] ?? {};
    if (element && data.chosen !== this.chosen) {
      const [left, width] = [element.offsetLeft - this.list.offsetLeft, this.list.clientWidth];
      if (left < this.list.scrollLeft || left + element.offsetWidth > this.list.scrollLeft + width) this.list.scrollLeft = left - width / 3;
    }
    this.chosen = data.chosen;
  }

  thumbnail({ key, title, note, figure, image }, chosen) {
    const picture = make("img", { src: image, alt: "", loading: "lazy", draggable: false });
    const element = make("div", { className: "tae-shelf-item", role: "option", id: `tae-shelf-${key}` }, picture);
    element.append(make("span", { textContent: figure || title }));
    element.title = [title, figure, note].filter(Boolean).join(": ");
    element.setAttribute("aria-label", [title, figure].filter(Boolean).join(", "));
    element.setAttribute("aria-selected", String(key === chosen));
    element.onclick = () => this.tell("chosen", key);
    this.items.push({ key, element });
    return element;
  }

  mark(at) {
    this.at = at;
    this.items.forEach(({ element }, i) => element.classList.toggle("tae-at", i === at));
    const { element } = this.items[at] ?? {};
    if (!element) return;
    this.list.setAttribute("aria-activedescendant", element.id);
    element.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const last = this.items.length - 1;
    const to = { ArrowLeft: this.at - 1, ArrowRight: this.at + 1, Home: 0, End: last }[event.key];
    if (to !== undefined) this.mark(Math.max(0, Math.min(last, to)));
    else if ((event.key === "Enter" || event.key === " ") && this.items[this.at]) this.tell("chosen", this.items[this.at].key);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

const shelf = mounting(Shelf);

export default shelf;
