"""What the two students share: requests are written as messages, and answers checked and read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final, Self

from vlab.grading.facade import Part, Value
from vlab.grading.links import Desk, Message
from vlab.grading.student import NotWritten, Place, Stopped, StudentError
from vlab.grading.values import Malformed, Plain

#: How often the machine and student code may stand inside calls of one another.
MAX_NESTED: Final = 16

ENDED: Final = "your code ended its process before it answered"


class LinkedPart(Part):
    """An object of a linked student's."""

    def __init__(self, student: LinkedStudent, number: int) -> None:
        self.student = student
        self.number = number

    def call(self, method: str, *arguments: Value) -> Value:
        """Call a method of it. Raises StudentError."""
        return self.student.request("part", self.number, method, arguments=arguments)

    def get(self, attribute: str) -> Value:
        """Read an attribute of it. Raises StudentError."""
        return self.student.request("get", self.number, attribute)


class LinkedStudent(ABC):
    """A `student.Student` whose code answers messages."""

    def __init__(self) -> None:
        self.desk = Desk(self._part, self._number_of)
        self._parts: dict[int, LinkedPart] = {}
        self._stopped: Stopped | None = None
        self._nested = 0

    def defines(self, name: str) -> bool:
        """Whether the cell has given the name a meaning."""
        return self.request("defines", name) is True

    def call(self, name: str, *arguments: Value) -> Value:
        """Call a function of the cell's. Raises StudentError, NotWritten or Stopped."""
        return self.request("call", name, arguments=arguments)

    def make(self, name: str, *arguments: Value) -> Part:
        """Make an object of a class of the cell's. Raises StudentError, NotWritten or Stopped."""
        number = self.request("make", name, arguments=arguments)
        if not isinstance(number, int) or number in self._parts:
            raise self.stop("your code's process gave an object no number of its own")
        part = self._parts[number] = LinkedPart(self, number)
        return part

    def close(self) -> None:
        """Let it go. What is asked of it afterwards raises Stopped."""
        if self._stopped is None:
            self._stopped = Stopped("this student was let go")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def exchange(self, request: Message) -> Message:
        """Have the student's side do what is asked, answering what it asks meanwhile. Raises Stopped."""

    def stop(self, why: str) -> Stopped:
        """Give the student up, and give the exception to raise for it: the first, when there was one."""
        if self._stopped is None:
            self._stopped = Stopped(why)
        return self._stopped

    def request(self, act: str, *subject: Plain, arguments: tuple[Value, ...] | None = None) -> Value:
        """Ask for something, and give the answer's value. Raises StudentError, NotWritten or Stopped."""
        message: Message = [act, *subject]
        if arguments is not None:
            message.append([self.desk.pack(each) for each in arguments])
        return self.settle(message)

    def settle(self, message: Message) -> Value:
        """Send a message, and give its answer's value or raise its error."""
        if self._stopped is not None:
            raise self._stopped
        if self._nested >= MAX_NESTED:
            raise StudentError(
                "RecursionError", f"the machine and your code called one another {MAX_NESTED} deep"
            )
        self._nested += 1
        try:
            answer = self.exchange(message)
        except Stopped:
            self._raise_carried()  # which came first
            raise
        finally:
            self._nested -= 1
        self._raise_carried()
        if self._stopped is not None:  # while it was doing this, and it caught the exception
            raise self._stopped
        try:
            return self._read(answer)
        except Malformed as malformed:
            raise self.stop(f"your code's process sent an answer that {malformed}") from None

    def _raise_carried(self) -> None:
        carried, self.desk.carried = self.desk.carried, None
        if carried is not None:
            raise carried

    def _read(self, answer: Message) -> Value:
        match answer:
            case ["value", plain]:
                return self.desk.unpack(plain)
            case ["error", str() as kind, str() as message, None | int() as line, str() as text]:
                raise self._error(kind, message, None if line is None else Place(line, text.rstrip("\n")))
            case _:
                raise Malformed("is none")

    def _error(self, kind: str, message: str, place: Place | None) -> StudentError:
        if kind == "NotImplementedError":
            return NotWritten(message, place)
        if kind == "SystemExit":
            return self.stop(ENDED)
        return StudentError(kind, message, place)

    def _part(self, number: int) -> Part:
        return self._parts[number]

    def _number_of(self, part: Part) -> int | None:
        """Give the number of an object of this student's own, None for another's."""
        return part.number if isinstance(part, LinkedPart) and part.student is self else None

    def _answer(self, request: Message) -> Message:
        """Answer student code. Raises Stopped for what no stand-in would ask."""
        try:
            return self.desk.answer(request)
        except Malformed as malformed:
            raise self.stop(f"your code's process {malformed}") from None
