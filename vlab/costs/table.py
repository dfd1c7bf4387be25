"""The cost table: how many cycles things took on processors of the past, and where each figure is from.

``costs.toml`` beside this module is the table, and explains its format. A user's own file is laid over it:
what that does not say stays.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Final

from vlab.costs.operations import NAMES
from vlab.errors import UnusableInput
from vlab.vmm.exits import REASONS

Tree = Mapping[str, object]
"""A TOML table as ``tomllib`` reads it."""

BUILT_IN: Final = Path(__file__).with_name("costs.toml")
TRANSITION: Final = "transition"
OTHER: Final = "other"
BLOCK: Final = "block"
"""Names of figures beside those of exit reasons and operations."""
_PARTS: Final = ("guest", "hardware", "software", "translated")
_KINDS: Final = ("hardware", "software")
_NAMES_OF: Final = {"guest": (BLOCK, *NAMES), "translated": NAMES}
_LIMIT: Final = 10**9


class Sure(IntEnum):
    """How sure a figure is; a result is as sure as the least sure figure in it."""

    ESTIMATED = 0
    RECALLED = 1
    MEASURED = 2


@dataclass(frozen=True, slots=True)
class Figure:
    """Cycles, how sure they are, and where they are from."""

    cycles: float
    sure: Sure
    source: str

    def times(self, factor: Figure) -> Figure:
        """Give this figure on a processor that needs ``factor`` of the cycles."""
        source = f"{factor.cycles:g} x {self.cycles:g} ({self.source}; {factor.source})"
        return Figure(self.cycles * factor.cycles, min(self.sure, factor.sure), source)


@dataclass(frozen=True, slots=True)
class Generation:
    """The figures of one generation of processors.

    nested: whether it has nested paging. guest: what operations, and a basic block, take by themselves.
    hardware, software: what exits take, by reason. translated: what operations take more in translated code.
    """

    name: str
    title: str
    nested: bool
    guest: Mapping[str, Figure]
    hardware: Mapping[str, Figure]
    software: Mapping[str, Figure]
    translated: Mapping[str, Figure] = field(default_factory=dict)

    def exits(self, kind: str) -> Mapping[str, Figure]:
        """The figures of the exits of a kind, "hardware" or "software"."""
        return self.hardware if kind == "hardware" else self.software


@dataclass(frozen=True, slots=True)
class Technique:
    """How a monitor's exits are charged. exits: their kind. inside: the reasons that need no transition."""

    exits: str
    inside: frozenset[str] = frozenset()
    translated: bool = False


@dataclass(frozen=True, slots=True)
class Costs:
    """The whole table. generations: from the oldest to the newest."""

    default: str
    sources: Mapping[str, str]
    techniques: Mapping[str, Technique]
    generations: Mapping[str, Generation]

    def generation(self, name: str | None = None) -> Generation:
        """Give a generation by name, the default one for None. Raises UnusableInput for an unknown name."""
        name = self.default if name is None else name
        if name not in self.generations:
            raise UnusableInput(
                f"generation: there is no {name!r}; choose one of {', '.join(self.generations)}"
            )
        return self.generations[name]


def load(path: Path | None = None) -> Costs:
    """Read the table of the package, with a user's file laid over it.

    Raises UnusableInput, which names the file and the key, for a file that cannot be used.
    """
    tree = _read(BUILT_IN)
    if path is None:
        return _Reader(BUILT_IN).costs(tree)
    return _Reader(path).costs(_over(tree, _read(path)))


def _read(path: Path) -> Tree:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnusableInput(f"costs: '{path}' cannot be read: {error.strerror}; check the path") from error
    except ValueError as error:  # no TOML, or no text
        raise UnusableInput(f"costs: '{path}' is no TOML: {error}") from error


def _over(below: Tree, above: Tree) -> Tree:
    """Lay one tree over another; a figure is replaced as a whole."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        deeper = isinstance(value, Mapping) and isinstance(old, Mapping) and "source" not in old
        merged[key] = _over(old, value) if deeper else value  # type: ignore[arg-type]
    return merged


class _Reader:
    """Checks a tree and makes the table of it; says what is wrong by its key."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _wrong(self, key: str, what: str) -> UnusableInput:
        return UnusableInput(f"costs: '{self._path}': {key}: {what}")

    def costs(self, tree: Tree) -> Costs:
        self._known("the file", tree, ("default", "sources", "monitors", "generations"))
        sources = {key: self._text(f"sources.{key}", text) for key, text in self._table(tree, "sources")}
        techniques = {
            name: self._technique(f"monitors.{name}", value) for name, value in self._table(tree, "monitors")
        }
        generations: dict[str, Generation] = {}
        for name, value in self._table(tree, "generations"):
            generations[name] = self._generation(name, value, generations)
        default = self._text("default", tree.get("default"))
        if default not in generations:
            raise self._wrong("default", f"there is no {default!r}; choose one of {', '.join(generations)}")
        return Costs(default, sources, techniques, generations)

    def _generation(self, name: str, value: object, earlier: Mapping[str, Generation]) -> Generation:
        key = f"generations.{name}"
        tree = self._tree(key, value)
        self._known(key, tree, ("title", "nested", "like", "factor", *_PARTS))
        base = self._base(key, tree, earlier)
        parts = {part: base.get(part, {}) | self._figures(f"{key}.{part}", part, tree) for part in _PARTS}
        for part, needed in (("guest", (BLOCK,)), *((kind, (TRANSITION, OTHER)) for kind in _KINDS)):
            if missing := [each for each in needed if each not in parts[part]]:
                raise self._wrong(f"{key}.{part}", f"{missing[0]} is missing; add it, or say what it is like")
        nested = tree.get("nested")
        if not isinstance(nested, bool):
            raise self._wrong(f"{key}.nested", f"{nested!r} is neither true nor false")
        return Generation(name, self._text(f"{key}.title", tree.get("title")), nested, **parts)

    def _base(self, key: str, tree: Tree, earlier: Mapping[str, Generation]) -> dict[str, dict[str, Figure]]:
        """Give the figures of the generation that this one is like, times its factor."""
        like = tree.get("like")
        if like is None:
            return {}
        if not isinstance(like, str) or like not in earlier:
            known = ", ".join(earlier) or "none"
            raise self._wrong(f"{key}.like", f"{like!r} is not listed above it; above are {known}")
        factor = self._figure(f"{key}.factor", tree.get("factor"), "times")
        return {
            part: {name: figure.times(factor) for name, figure in getattr(earlier[like], part).items()}
            for part in _PARTS
        }

    def _figures(self, key: str, part: str, tree: Tree) -> dict[str, Figure]:
        found = self._tree(key, tree.get(part, {}))
        self._known(key, found, _NAMES_OF.get(part, (TRANSITION, OTHER, *REASONS)))
        return {name: self._figure(f"{key}.{name}", value) for name, value in found.items()}

    def _figure(self, key: str, value: object, amount: str = "cycles") -> Figure:
        tree = self._tree(key, value)
        self._known(key, tree, (amount, "sure", "source"))
        number, sure = tree.get(amount), tree.get("sure")
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= _LIMIT:
            raise self._wrong(key, f"{amount} = {number!r} is no number from 0 to {_LIMIT:,}")
        names = [each.name.lower() for each in Sure]
        if sure not in names:
            raise self._wrong(key, f"sure = {sure!r} is not one of {', '.join(names)}")
        source = self._text(f"{key}.source", tree.get("source"))
        return Figure(number, Sure[str(sure).upper()], source)

    def _technique(self, key: str, value: object) -> Technique:
        tree = self._tree(key, value)
        self._known(key, tree, ("exits", "inside", "translated"))
        kind, inside = tree.get("exits"), tree.get("inside", [])
        if kind not in _KINDS:
            raise self._wrong(f"{key}.exits", f"{kind!r} is neither {' nor '.join(_KINDS)}")
        if not isinstance(inside, list) or not all(reason in REASONS for reason in inside):
            raise self._wrong(f"{key}.inside", f"{inside!r} is no list of exit reasons")
        return Technique(str(kind), frozenset(inside), tree.get("translated") is True)

    def _table(self, tree: Tree, key: str) -> list[tuple[str, object]]:
        return list(self._tree(key, tree.get(key, {})).items())

    def _tree(self, key: str, value: object) -> Tree:
        if not isinstance(value, Mapping):
            raise self._wrong(key, f"{value!r} is no table; vlab/costs/costs.toml shows the format")
        return value

    def _text(self, key: str, value: object) -> str:
        if not isinstance(value, str) or not value:
            raise self._wrong(key, f"{value!r} is no text; every figure says where it is from")
        return value

    def _known(self, key: str, tree: Tree, names: tuple[str, ...]) -> None:
        if unknown := [name for name in tree if name not in names]:
            raise self._wrong(key, f"{unknown[0]!r} is not known; write one of {', '.join(names)}")
