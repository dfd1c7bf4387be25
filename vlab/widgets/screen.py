"""The VGA text screen, live: 25 lines of 80 characters with their colours, as a monitor shows them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar, Final

import traitlets

from vlab.widgets import svg
from vlab.widgets.view import LiveView

if TYPE_CHECKING:
    from vlab.session import VM

_COLUMNS: Final = 80
_WIDTH, _HEIGHT = 8, 16  # pixels of a character in the drawing
_SHARE: Final = 0.05
"""Of the time that may go into pictures while the guest runs."""


class Screen(LiveView):
    """The screen of ``vm``. ``lines``: the text on it, without blanks at line ends."""

    script: ClassVar[str] = "screen.js"
    styles: ClassVar[tuple[str, ...]] = ("screen.css",)

    lines = traitlets.List(traitlets.Unicode()).tag(sync=True)
    image = traitlets.Bytes(help="the same as a PNG").tag(sync=True)

    def __init__(self, vm: VM) -> None:
        self._drawn: tuple[object, ...] = ()
        self._next = 0.0
        super().__init__(vm)

    def refresh(self) -> None:
        """Look at the screen, and draw it if it has changed. What blinks is always drawn lit."""
        from vlab.devices.vga_picture import draw, encode_png

        vm = self.vm
        screen, began = vm.screen, time.monotonic()
        now = screen.cells(), screen.cursor(), screen.save()
        if now == self._drawn or (began < self._next and vm.busy):
            return
        cells, cursor, state = self._drawn = now
        image = encode_png(draw(state, cells, cursor, 0))
        with self.hold_sync():
            self.lines, self.image = screen.text().split("\n"), image
        took = time.monotonic() - began
        self._next = began + took / _SHARE

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
