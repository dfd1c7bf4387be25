"""The options of a magic: declared once, and read, completed and explained from the declaration."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from vlab.errors import UnusableInput


@dataclass(frozen=True, slots=True)
class Option:
    """An option ``--name VALUE``, or a flag where ``value`` is "". choices: gives the possible values."""

    name: str
    value: str
    meaning: str
    choices: Callable[[], Sequence[str]] | None = None
    kind: type[str] | type[int] | type[float] = str

    @property
    def usage(self) -> str:
        """How it is written."""
        return f"--{self.name} {self.value}".rstrip()

    def read(self, magic: str, text: str) -> str | int | float:
        """Read a value. Raises UnusableInput."""
        if self.choices is not None and text not in (known := self.choices()):
            raise UnusableInput(f"{magic} --{self.name}: {text!r} is not possible; give {_either(known)}")
        if self.kind is str:
            return text
        place = f"{magic} --{self.name}"
        return whole(place, text) if self.kind is int else _seconds(place, text)


def whole(place: str, text: str, most: int | None = None) -> int:
    """Read a whole number from 1. place: where it is written. Raises UnusableInput."""
    try:
        found = int(text, 0)
    except ValueError:
        found = 0
    if found < 1 or (most is not None and found > most):
        raise UnusableInput(f"{place}: {text!r} is no number to use here; give a whole number from 1")
    return found


def _seconds(place: str, text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise UnusableInput(f"{place}: {text!r} is no number to use here; give seconds, such as 5")
    return found


@dataclass(frozen=True, slots=True)
class Given:
    """What a magic was given: ``words`` without options, and the options by name."""

    words: tuple[str, ...] = ()
    options: dict[str, str | int | float | bool] = field(default_factory=dict)

    def text(self, name: str, default: str | None = None) -> str | None:
        """Give an option's text."""
        value = self.options.get(name, default)
        return None if value is None else str(value)

    def count(self, name: str) -> int | None:
        """Give an option's whole number."""
        value = self.options.get(name)
        return None if value is None else int(value)

    def seconds(self, name: str) -> float | None:
        """Give an option's time."""
        value = self.options.get(name)
        return None if value is None else float(value)

    def flag(self, name: str) -> bool:
        """Tell whether a flag was given."""
        return bool(self.options.get(name))


def split(magic: str, line: str) -> list[str]:
    """Split a line into words, quotes respected. Raises UnusableInput for a quote without its partner."""
    try:
        return shlex.split(line)
    except ValueError:
        raise UnusableInput(f"{magic}: {line.strip()!r} has a quote without its partner; add it") from None


def parse(magic: str, options: Sequence[Option], words: Sequence[str]) -> Given:
    """Read the words after a magic's name. Raises UnusableInput, naming option and value."""
    known = {option.name: option for option in options}
    given, rest = Given(), []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("--"):
            rest.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        option = known.get(name)
        if option is None:
            raise UnusableInput(f"{magic}: there is no option '--{name}'; {_near(name, list(known))}")
        if not option.value:
            if equals:
                raise UnusableInput(
                    f"{magic} --{name}: it takes no value, and {value!r} is given; leave that out"
                )
            given.options[name] = True
            continue
        if not equals:
            if not waiting:
                raise UnusableInput(f"{magic} --{name}: its value is missing; write {option.usage}")
            value = waiting.pop(0)
        given.options[name] = option.read(magic, value)
    return Given(tuple(rest), given.options)


def _near(name: str, known: Sequence[str]) -> str:
    if not known:
        return "it takes none"
    close = difflib.get_close_matches(name, known, 1, 0.5)
    return f"did you mean --{close[0]}?" if close else f"there are {', '.join(f'--{each}' for each in known)}"


def _either(values: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(values[:-1]), values[-1])))


def explain(options: Sequence[Option]) -> str:
    """Give the options as lines for a help text."""
    width: Final = max((len(option.usage) for option in options), default=0)
    return "\n".join(f"  {option.usage:{width}}  {option.meaning}" for option in options)


def complete(options: Sequence[Option], before: Sequence[str], text: str) -> list[str]:
    """Give what may stand where ``text`` is begun, after the words ``before``."""
    last = before[-1] if before else ""
    awaiting = next(
        (option for option in options if last.rstrip("=") == f"--{option.name}" and option.value), None
    )
    if awaiting is not None:
        return [each for each in (awaiting.choices() if awaiting.choices else ()) if each.startswith(text)]
    used = {word.partition("=")[0] for word in before}
    names = [f"--{option.name}" for option in options]
    return [each for each in names if each.startswith(text) and each not in used]
