"""The pages as a site, by Sphinx: `make docs`. On GitHub they are read as they are."""

from inferry import __version__

project = "inferry"
author = "the authors of inferry"
project_copyright = f"{author}, Apache License 2.0"
release = __version__

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"inferry {release}"
# Anchors as GitHub makes them, which the links between pages name.
myst_heading_anchors = 4
# Its lexer of consoles takes no quotes over several lines; the blocks are shown all the same.
suppress_warnings = ["misc.highlighting_failure"]
