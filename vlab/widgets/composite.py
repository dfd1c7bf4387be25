"""Views made of several widgets, such as charts: with the same static picture and words as the others.

The root of such a view is a box, which cannot keep JupyterLab's shortcuts out of itself. Its first child, a
`Frame`, does that for it.
"""

from __future__ import annotations

from typing import Any

import ipywidgets
import traitlets

from vlab.widgets.view import Scripted, Told


class Frame(Scripted):
    """Makes the box around it the root of a view: its name, its style, and no shortcuts of JupyterLab in it.

    A subclass's ES module calls ``frameOf``.
    """

    label = traitlets.Unicode(help="what a screen reader calls the view").tag(sync=True)


class Composite(Told, ipywidgets.VBox):  # type: ignore[misc] # it has no types
    """A view of several widgets, a `Frame` first."""

    def __init__(self, frame: Frame, *others: ipywidgets.Widget, **traits: Any) -> None:
        super().__init__([frame, *others], **traits)
        self.add_class("vlab-view")
        self.add_class("vlab-framed")

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """Give the live view and what stands for it."""
        return super()._repr_mimebundle_(**options) | self.stand_ins()
