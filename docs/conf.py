"""How Sphinx builds the site: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import vlab  # noqa: E402  the checkout's own, found by the line above

project = "vlab"
author = "The vlab authors"
release = version = vlab.__version__
language = "en"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "commands",  # the command line, from its own help
    "declared",  # tables from the declarations in vlab.isa, and from the exits
    "outside",  # pages that lie beside docs/: README, CHANGELOG, CONTRIBUTING
    "recorded",  # runs that are recorded at the build and played in the page
]
exclude_patterns = ["_ext", "_static", "tools"]
needs_sphinx = "8.0"

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]

smartquotes = False  # they would turn --options into dashes
default_role = "code"  # docstrings write `name`
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
add_module_names = False
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = f"vlab {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": False}
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
