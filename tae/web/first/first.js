// How wide the sidebar will come: as the visitor left it.
try {
  const isShut = localStorage.getItem("stSidebarCollapsed-") === "true";
  const width = isShut ? "0" : localStorage.getItem("sidebarWidth");
  if (width) document.documentElement.style.setProperty("--tae-sidebar", `${width}px`);
} catch {
  // a browser that keeps nothing: it comes as wide as it is at first
}
// Back leads to the page before, in one press: what a page writes into its own address is no step.
{
  const push = history.pushState.bind(history);
  history.pushState = (state, title, url) => {
    const isHere = new URL(url ?? "", location).pathname === location.pathname;
    return isHere ? history.replaceState(state, title, url) : push(state, title, url);
  };
}
