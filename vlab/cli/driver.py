"""Drives one machine from the command line: console out, script or keys in, and the ending as a status."""

from __future__ import annotations

import codecs
import sys
import time
from typing import TYPE_CHECKING

from vlab.cli.output import say
from vlab.cli.script import ENTER, Script
from vlab.cli.terminal import Keys, Terminal
from vlab.compare.record import guest_failed
from vlab.vmm.stop import Stop, StopKind

if TYPE_CHECKING:
    from vlab.session import VM

__all__ = ["GUEST_FAILED", "INTERRUPTED", "TIMED_OUT", "Driver"]

GUEST_FAILED = 1
TIMED_OUT = 3
INTERRUPTED = 130

#: How long the loop beside a running guest waits for a key, in seconds: too short for a person to notice.
KEY_WAIT = 0.02


class Driver:
    """Runs `vm` along `script` for at most `timeout` seconds of wall time, and says at the end what happened.

    `ending` is the stop reason for --json: the machine's own, or "interrupted" by Ctrl-C, or "quit" by the
    keys that leave an attached terminal.
    """

    def __init__(self, vm: VM, script: Script, timeout: float | None) -> None:
        self.ending = "interrupted"
        self._vm = vm
        self._script = script
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._output = None if sys.stdout is None else sys.stdout.buffer  # `>&-` has closed it
        self._lost: OSError | None = None
        self._mid_line = False
        vm.console.subscribe(self._show)

    def run(self, *, attach: bool) -> int:
        """Run to the end of the script or of the guest and return the exit status.

        With `attach` the user's terminal is the guest's, and the end of the script is not the end of the run.
        """
        try:
            stop = self._attached() if attach else self._unattended()
        except KeyboardInterrupt:
            self._say("vlab: interrupted")
            return INTERRUPTED
        if self._lost:
            raise self._lost
        if stop is None:
            self.ending = "quit"
            return 0
        self.ending = stop.kind
        return self._conclude(stop)

    def _unattended(self) -> Stop:
        while True:
            stop = self._vm.run(until=self._arrived, timeout=self._remaining())
            if not self._script.reached or self._lost:
                return stop
            if not self._type_line():
                return stop

    def _attached(self) -> Stop | None:
        say("vlab: your keys go to the guest; Ctrl-] ends the run")
        keys, decoder = Keys(), codecs.getincrementaldecoder("utf-8")("replace")
        with Terminal() as terminal:
            self._vm.start(timeout=self._remaining())
            while (stop := self._vm.wait(timeout=0)) is None:
                typed = decoder.decode(keys.feed(terminal.read(KEY_WAIT)))
                if typed:
                    self._vm.send(typed)
                if self._script.reached:
                    self._type_line()
                if keys.quit or self._lost:
                    self._vm.pause()
                    break
        return stop

    def _type_line(self) -> bool:
        line = self._script.advance()
        if line is not None:
            self._vm.send(line + ENTER)
        return line is not None

    def _arrived(self, *_: object) -> bool:
        return self._script.reached or self._lost is not None

    def _remaining(self) -> float | None:
        return None if self._deadline is None else max(0.001, self._deadline - time.monotonic())

    def _show(self, output: bytes) -> bool:
        """Pass output on; True when the run should ask at once whether it has arrived."""
        self._script.feed(output)
        if self._lost or self._output is None or not output:
            return self._arrived()
        try:
            self._output.write(output)
            self._output.flush()
        except OSError as error:  # its reader has gone away, or its disk is full
            self._lost = error
        self._mid_line = not output.endswith(b"\n")
        return self._arrived()

    def _conclude(self, stop: Stop) -> int:
        missing = self._script.waiting_for
        if stop.kind is StopKind.TIMEOUT:
            awaited = "" if missing is None else f", before {missing!r} appeared"
            self._say(f"vlab: the time ran out after {self._timeout:g} s{awaited}")
            return TIMED_OUT
        failed = guest_failed(stop)
        if stop.kind is StopKind.EXPECTED:
            self._end_line()
        else:
            self._say(stop.story if failed else f"vlab: {stop.headline}")
        if missing is not None:
            self._say(f"vlab: the guest ended before {missing!r} appeared")
            return GUEST_FAILED
        return GUEST_FAILED if failed else 0

    def _say(self, text: str) -> None:
        if self._mid_line:
            say("")
            self._mid_line = False
        say(text)

    def _end_line(self) -> None:
        """Leave the person at the terminal a new line; into a file or a pipe only the guest writes."""
        if self._mid_line and sys.stderr.isatty():
            say("")
