"""Views made of several widgets, such as charts: with the same static picture and words as the others.

The root of such a view is a box, which cannot keep JupyterLab's shortcuts out of itself. Its first child, a
`Frame`, does that for it.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import anywidget
import ipywidgets
import traitlets

from vlab.widgets import bundle


class Frame(anywidget.AnyWidget):
    """Makes the box around it the root of a view: its name, its style, and no shortcuts of JupyterLab in it.

    A subclass names its ES module and style sheets, as a `View` does; the module calls ``frameOf``.
    """

    script: ClassVar[str]
    styles: ClassVar[tuple[str, ...]] = ()

    label = traitlets.Unicode(help="what a screen reader calls the view").tag(sync=True)

    def __init_subclass__(cls, **options: Any) -> None:
        script = cls.__dict__.get("script")
        if script is not None:  # traitlets makes classes of its own, too
            cls._esm, cls._css = bundle.module(script), bundle.style(*cls.styles)
        super().__init_subclass__(**options)


class Composite(ipywidgets.VBox):  # type: ignore[misc] # it has no types
    """A view of several widgets, a `Frame` first."""

    def __init__(self, frame: Frame, *others: ipywidgets.Widget, **traits: Any) -> None:
        super().__init__([frame, *others], **traits)
        self.add_class("vlab-view")
        self.add_class("vlab-framed")

    @abstractmethod
    def picture(self) -> str | None:
        """Draw what it shows now as an SVG document; None where words say it better."""

    @abstractmethod
    def words(self) -> str:
        """Tell what it shows now in a few lines."""

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """Give the live view and what stands for it."""
        data = super()._repr_mimebundle_(**options)
        picture = self.picture()
        if picture is not None:
            data["image/svg+xml"] = picture
        data["text/plain"] = self.words()
        return data
