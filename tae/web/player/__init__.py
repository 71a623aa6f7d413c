"""The player of sequences: frames of several rows side by side, and all of them as a film strip. Plain JavaScript.

- payload: the frames and numbers that it shows
- player.js, player.css: what runs in the browser
"""
