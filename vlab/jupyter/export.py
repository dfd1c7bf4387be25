"""Export of notebooks with their pictures: what stands for a view where there is no kernel.

Jupyter's own HTML export prefers the live widget of an output, of which nothing can be seen without its
kernel. These exporters leave the widget out where the output has a picture or words as well. They are
registered with nbconvert, so that JupyterLab's menu (File, Save and Export Notebook As) lists them, and
`jupyter nbconvert --to vlab_html lesson.ipynb` works. Markdown takes the pictures by itself.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Final

from nbconvert.exporters import HTMLExporter

WIDGET: Final = "application/vnd.jupyter.widget-view+json"
_INSTEAD: Final = ("image/svg+xml", "image/png", "text/html", "text/plain")


class PicturesHTMLExporter(HTMLExporter):
    """HTML in which vlab's views are pictures."""

    export_from_notebook = "HTML with vlab's pictures"

    def from_notebook_node(self, nb: Any, resources: Any = None, **kw: Any) -> Any:
        """Export notebook ``nb``, which stays as it is."""
        return super().from_notebook_node(keep_pictures(nb), resources, **kw)


def keep_pictures(notebook: Any) -> Any:
    """Give a notebook without the widgets of those outputs that have a picture or words as well."""
    notebook = deepcopy(notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if WIDGET in data and any(kind in data for kind in _INSTEAD):
                del data[WIDGET]
    return notebook
