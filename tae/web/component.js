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

