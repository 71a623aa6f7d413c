"""The attention explorer: follow attention with the pointer. One component in plain JavaScript, for the app and for files.

- payload: what it shows, as numbers small enough for a page
- standalone: the explorer in a page of its own
- explorer.js, explorer.css: what runs in the browser; headgrid.js: every head in small, and the reconstruction beside the
  image; matrix.js: the page's heatmap under the same pointer
"""
