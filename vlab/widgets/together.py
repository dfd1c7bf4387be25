"""Several views in a grid, and what stands for them where there is no kernel: their pictures in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import ipywidgets

from vlab.widgets import svg
from vlab.widgets.view import Told

_GAP: Final = "8px"


class Together(Told, ipywidgets.GridBox):  # type: ignore[misc] # it has no types
    """Views and other widgets, so many side by side."""

    def __init__(self, views: Sequence[ipywidgets.Widget], columns: int) -> None:
        template = " ".join(["minmax(0, 1fr)"] * columns)
        super().__init__(list(views), layout={"grid_template_columns": template, "grid_gap": _GAP})
        self._columns = columns

    def picture(self) -> str | None:
        """Draw those views that can be drawn, in one; None where there is none."""
        drawn = [each.picture() for each in self._views()]
        found = [picture for picture in drawn if picture is not None]
        return svg.together(found, self._columns) if found else None

    def words(self) -> str:
        """Tell what each of the views tells."""
        return "\n\n".join(each.words() for each in self._views()) or repr(self)

    def _views(self) -> list[Told]:
        return [each for each in self.children if isinstance(each, Told)]

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """Give the live views and what stands for them."""
        return super()._repr_mimebundle_(**options) | self.stand_ins()
