"""Components and pages that run in a browser without a server: plain JavaScript, no build step.

- first: what a browser gets first
- component: what the components share
- explorer: attention that follows the pointer
- feed: what an explorer gets beside its own data
- player: sequences, frame by frame
- patches: an image on which patches are chosen
- features: how alike patches are, layer by layer
- hover: the image of the point under the pointer
- slide: two images and a line between them that one moves
- shelf: a row of thumbnails to choose from
- copylink: a button that copies the page's address
- report: one self-contained HTML file
- notebook: tae.show for notebooks
"""
