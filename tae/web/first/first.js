// How wide the sidebar will come: as the visitor left it.
try {
  const isShut = localStorage.getItem("stSidebarCollapsed-") === "true";
  const width = isShut ? "0" : localStorage.getItem("sidebarWidth");
  if (width) document.documentElement.style.setProperty("--tae-sidebar", `${width}px`);
} catch {
  // a browser that keeps nothing: it comes as wide as it is at first
}
