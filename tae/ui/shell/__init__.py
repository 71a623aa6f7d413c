"""The frame around every page.

- sidebar: the sidebar, and what every page starts with
- guide: the tour and the glossary on the screen
- tour: the steps of the tour
- glossary: terms that explain themselves
"""
