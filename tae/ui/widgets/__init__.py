"""Controls and drawings that several pages use.

- charts: charts as high as their width asks
- copylink: a button that copies the page's address
- drop: where files are dropped
- downloads: download buttons
- mapchoice: which map: part, layer, head
- patches: patches chosen on an image
- player: the player of sequences
- report: the report of an image, as a download
- slide: two images and a line between them that one moves
- table: a table of figures that fits a telephone
- worth: a figure in dB beside what simple codes reach
"""
