"""The VGA text screen, live: 25 lines of 80 characters with their colours, as a monitor shows them."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import traitlets

from vlab.widgets import svg
from vlab.widgets.view import LiveView

_COLUMNS: Final = 80
_WIDTH, _HEIGHT = 8, 16  # pixels of a character in the drawing


class Screen(LiveView):
    """The screen of ``vm``. ``lines``: the text on it, without blanks at line ends."""

    script: ClassVar[str] = "screen.js"
    styles: ClassVar[tuple[str, ...]] = ("screen.css",)

    lines = traitlets.List(traitlets.Unicode()).tag(sync=True)
    image = traitlets.Bytes(help="the same as a PNG").tag(sync=True)

    def refresh(self) -> None:
        """Look at the screen."""
        screen = self.vm.screen
        lines = screen.text().split("\n")
        image = screen.png()
        if image != self.image:
            with self.hold_sync():
                self.lines, self.image = lines, image

    def picture(self) -> str:
        """Draw its text."""
        size = _WIDTH * _COLUMNS, _HEIGHT * len(self.lines)
        rows: list[Any] = [
            svg.text(4, _HEIGHT * (row + 1) - 4, line, class_="code", xml_space="preserve")
            for row, line in enumerate(self.lines)
            if line
        ]
        paper = svg.box(0, 0, *size, class_="panel")
        return svg.document(*size, "The guest's screen", paper, *rows)

    def words(self) -> str:
        """Give its text."""
        return "\n".join(self.lines)
