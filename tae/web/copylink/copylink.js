/* A button that copies the page's address, which holds the view. */

const SAID_MS = 2000;

class CopyLink {
  constructor(parent) {
    this.root = make("div", { className: "tae-component tae-copylink" });
    this.button = make("button", { type: "button", textContent: "Copy link", onclick: () => this.copy() });
    this.button.setAttribute("aria-live", "polite");
    this.root.append(this.button);
    parent.append(this.root);
  }

  close() {
    clearTimeout(this.timer);
    this.root.remove();
  }

  update({ data }) {
    this.said = data.said;
  }

  async copy() {
    let said = this.said;
    try {
      await navigator.clipboard.writeText(location.href);
    } catch {
      said = "Copy it from the address bar"; // a page that is not served securely may not write there
    }
    this.button.textContent = said;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => (this.button.textContent = "Copy link"), SAID_MS);
  }
}

const copylink = mounting(CopyLink);

export default copylink;
