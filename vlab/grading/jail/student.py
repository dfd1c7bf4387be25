"""A student in a jail: student code in a process that cannot do anything but compute and answer."""

from __future__ import annotations

import socket
import time
from typing import Final

from vlab.grading.jail.endings import sentence
from vlab.grading.jail.launch import NoJail, Zygote
from vlab.grading.jail.limits import Bounds
from vlab.grading.linked import LinkedStudent
from vlab.grading.links import Message
from vlab.grading.student import Stopped
from vlab.grading.values import Malformed
from vlab.grading.wire import Closed, Late, Wire

#: Seconds after which a jail should be there.
PATIENCE: Final = 60.0

#: Characters of output that are kept, however the jail came to send more.
MAX_OUTPUT: Final = 17 << 10


class JailedStudent(LinkedStudent):
    """The code of one cell, executed and asked in a jail of its own.

    seconds: wall time that student code may take in all; what the machine's side does for it is not counted.
    memory_bytes: what it may use beside an empty Python. requests: how often it may ask the machine's side.
    Raises StudentError for a cell that does not run, NoJail when there is no jail to be had.
    """

    def __init__(
        self,
        zygote: Zygote,
        source: str,
        seconds: float,
        memory_bytes: int = 256 << 20,
        requests: int = 1_000_000,
    ) -> None:
        super().__init__()
        self.output = ""
        self._zygote, self._seconds, self._memory_bytes = zygote, seconds, memory_bytes
        self._left, self._requests = seconds, requests
        self._number = 0
        self._jail: int | None = None
        self._socket, theirs = socket.socketpair()
        self._wire = Wire.of_socket(self._socket)
        try:
            with theirs:
                self._jail = zygote.start(theirs, Bounds(memory_bytes, seconds))
            self._wait_for_it()
            self.settle(["run", source])
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the jail."""
        super().close()
        self._end(gently=False)

    def exchange(self, request: Message) -> Message:
        """Have the jail do what is asked, answering what it asks meanwhile. Raises Stopped."""
        self._number += 1
        number = self._number
        try:
            self._send(["do", number, *request])
            while True:
                message = self._receive()
                match message:
                    case ["answer", int() as answered, *answer] if answered == number:
                        return answer or [""]
                    case ["said", str() as text]:
                        self.output += text[: MAX_OUTPUT - len(self.output)]
                    case ["ask", *_]:
                        self._send(self._served(message))
                    case _:
                        raise Malformed("spoke out of turn")
        except Late:
            raise self.stop(f"your code took more than the {self._seconds:g} s that it may take") from None
        except Closed:
            raise self.stop(sentence(self._end(gently=True), self._memory_bytes)) from None
        except Malformed as malformed:
            raise self.stop(f"your code's process {malformed}") from None
        except BaseException:
            self.close()  # it waits for an answer that will not come
            raise

    def stop(self, why: str) -> Stopped:
        """Give the student up and end its jail; give the exception to raise for it."""
        stopped = super().stop(why)
        self._end(gently=False)
        return stopped

    def _served(self, request: Message) -> Message:
        self._requests -= 1
        if self._requests < 0:
            raise self.stop("your code asked the machine too often: is there a loop without an end?")
        return self._answer(request)

    def _send(self, message: Message) -> None:
        began = time.monotonic()
        try:
            self._wire.send(message, began + self._left)
        finally:
            self._left -= time.monotonic() - began

    def _receive(self) -> Message:
        began = time.monotonic()
        try:
            return self._wire.receive(began + self._left)
        finally:
            self._left -= time.monotonic() - began

    def _wait_for_it(self) -> None:
        try:
            match self._wire.receive(time.monotonic() + PATIENCE):
                case ["ready"]:
                    return
                case ["open", str() as why]:
                    pass
                case message:
                    why = f"it said {message!r}"
        except (Closed, Malformed):
            why = f"it ended with status {self._end(gently=True)}"
        except Late:
            why = f"it was not there after {PATIENCE:g} s"
        raise NoJail(f"the jail could not be closed: {why}")

    def _end(self, *, gently: bool) -> int:
        self._socket.close()
        jail, self._jail = self._jail, None
        return 0 if jail is None else self._zygote.end(jail, gently=gently)
