"""The serial console in a notebook: a terminal that the guest writes to, and a keyboard for it.

The browser gets what is new some times a second, as bytes with their place in the guest's output. Only as
much as a terminal keeps is ever sent: a guest that writes faster than anybody reads is not slowed down.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final
from weakref import WeakKeyDictionary

import traitlets

from vlab.errors import VlabError
from vlab.widgets import svg
from vlab.widgets.standing import standing
from vlab.widgets.view import LiveView

if TYPE_CHECKING:
    from vlab.session import VM

KEPT: Final = 1 << 17
"""Bytes of output that a terminal keeps, and a view begins with."""
_LINES, _COLUMNS = 24, 80  # of the drawing
_WIDTH, _HEIGHT = 8, 16  # pixels of a character in it
_ECHO: Final = 0.04
"""Seconds after a key at which to look for what the guest made of it."""
_ESCAPES: Final = re.compile(
    r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[ -/]*[0-~])|[\x00-\x08\x0e-\x1f]"
)

_answering: WeakKeyDictionary[VM, str] = WeakKeyDictionary()
"""For each VM the view that answers what a guest asks its terminal: one, however many are shown."""


class Terminal(LiveView):
    """The serial console of ``vm``. What is typed into it goes to the guest, as by ``vm.send``.

    Shift+Tab leaves it backwards, Escape and then Tab forwards; all other keys are the guest's.
    """

    script: ClassVar[str] = "terminal.js"
    styles: ClassVar[tuple[str, ...]] = ("xterm.css", "terminal.css")

    tail = traitlets.Bytes(help="the end of the output").tag(sync=True)
    place = traitlets.Int(0, help="how many bytes there were up to the end of the tail").tag(sync=True)
    state = traitlets.Unicode("paused", help="running, paused or ended").tag(sync=True)
    why = traitlets.Unicode("", help="why it is paused, or how it ended").tag(sync=True)
    problem = traitlets.Unicode("", help="what went wrong with the last button").tag(sync=True)

    def __init__(self, vm: VM) -> None:
        self._guard = threading.RLock()
        self._echo: threading.Timer | None = None
        super().__init__(vm)
        self.on_msg(self._said)

    def _should_send_property(self, key: str, value: Any) -> bool:
        """Leave the output to `refresh`, which sends what is new; a browser that asks gets all of it."""
        if key in ("tail", "place"):
            return False
        return bool(super()._should_send_property(key, value))

    # --- what the guest writes --------------------------------------------------------------------------

    def refresh(self) -> None:
        """Send what the guest wrote since the last time."""
        vm = self.vm
        with self._guard:
            self._take(vm.console.data)
            with self.hold_sync():
                self.state, why = standing(vm)
                self.why = why.partition("\n")[0]

    def _take(self, data: bytearray) -> None:
        place, tail = self.place, self.tail
        end = len(data)
        if bytes(data[place - len(tail) : place]) != tail:  # the guest is in another past
            place, tail = self.place, self.tail = 0, b""
            self._send_piece(0, b"", again=True)
        if end == place:
            return
        start = max(place, end - KEPT)
        new = bytes(data[start:end])
        self.tail, self.place = (new if start > place else tail + new)[-KEPT:], start + len(new)
        self._send_piece(start, new)

    def _send_piece(self, start: int, piece: bytes, *, again: bool = False) -> None:
        self.send({"kind": "output", "start": start, "again": again}, [piece])

    # --- what is done to it -----------------------------------------------------------------------------

    def _said(self, _widget: object, message: Mapping[str, Any], buffers: list[bytes]) -> None:
        """Do what a view in a browser asks for."""
        try:
            vm = self.vm
            match message.get("kind"):
                case "keys":
                    self._type(vm, bytes(buffers[0]), str(message.get("view")), bool(message.get("answer")))
                case "focus":
                    _answering[vm] = str(message.get("view"))
                case "left" if _answering.get(vm) == message.get("view"):
                    del _answering[vm]
                case "whole":
                    with self._guard:
                        self.send_state(["tail", "place"])
                case "run":
                    self.problem = ""
                    vm.start()
        except VlabError as problem:
            self.problem = str(problem)

    def _type(self, vm: VM, data: bytes, view: str, answer: bool) -> None:
        if answer and _answering.setdefault(vm, view) != view:
            return
        vm.send(data)
        with self._guard:
            if self._echo is None or not self._echo.is_alive():
                self._echo = threading.Timer(_ECHO, self._look_again)
                self._echo.daemon = True
                self._echo.start()

    def _look_again(self) -> None:
        with suppress(VlabError):  # the VM is gone meanwhile
            self.refresh()

    # --- elsewhere --------------------------------------------------------------------------------------

    def picture(self) -> str:
        """Draw the last lines."""
        lines = self.lines()[-_LINES:] or [""]
        size = _WIDTH * _COLUMNS + 8, _HEIGHT * len(lines) + 8
        rows = [
            svg.text(4, _HEIGHT * (row + 1), line[:_COLUMNS], class_="code", xml_space="preserve")
            for row, line in enumerate(lines)
            if line
        ]
        return svg.document(*size, "The guest's serial console", svg.box(0, 0, *size, class_="panel"), *rows)

    def words(self) -> str:
        """Give the last lines."""
        return "\n".join(self.lines()[-_LINES:])

    def lines(self) -> list[str]:
        """Give the text of what is kept, line by line, without what only a terminal understands."""
        text = _ESCAPES.sub("", self.tail.decode("utf-8", "replace").replace("\r\n", "\n"))
        return [line.rstrip().rpartition("\r")[2] for line in text.rstrip("\n").split("\n")]
