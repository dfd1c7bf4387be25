"""TLBs and the costs of walks, on a few processors: a table that can be edited.

``walk_costs.toml`` beside this module is the table, and explains itself. What an exit costs is in
`vlab.costs`; what can be counted on the machine is in neither.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vlab.costs import table as costs
from vlab.costs.table import OTHER, TRANSITION, Costs, Figure, Generation, Sure
from vlab.errors import UnusableInput
from vlab.machine.memory import PAGE

__all__ = ["BUILT_IN", "FIGURES", "Processor", "TlbLevel", "read_processors"]

BUILT_IN: Final = Path(__file__).with_name("walk_costs.toml")
FIGURES: Final = ("touch", "update", "last_reference", "upper_reference")
"""The figures of a processor; the table says what they mean."""
_KEYS: Final = ("title", "exits", "tlb_sure", "tlb_source", "small", "large", "cycles")
_LEVEL_KEYS: Final = ("entries", "ways", "hit")


@dataclass(frozen=True, slots=True)
class TlbLevel:
    """A TLB for pages of one size: ``entries`` in sets of ``ways``. hit: what finding a page there takes."""

    entries: int
    ways: int
    hit: float = 0

    @property
    def sets(self) -> int:
        """How many sets there are."""
        return self.entries // self.ways


@dataclass(frozen=True, slots=True)
class Processor:
    """A processor of the table. small, large: its TLBs for 4 KiB and for 2 MiB pages, the first level first.

    cycles: the figures that FIGURES names. generation: what its exits cost.
    """

    name: str
    title: str
    small: tuple[TlbLevel, ...]
    large: tuple[TlbLevel, ...]
    tlb_source: Figure
    cycles: Mapping[str, Figure]
    generation: Generation

    def tlb(self, page_size: int) -> tuple[TlbLevel, ...]:
        """Give the TLBs for pages of ``page_size`` bytes, 4 KiB or 2 MiB."""
        return self.small if page_size == PAGE else self.large

    @property
    def reach(self) -> int:
        """How many 4 KiB pages the largest TLB holds."""
        return max(level.entries for level in self.small)

    def exit_cycles(self, reason: str) -> float:
        """Give what an exit of a hardware monitor costs, for its reason: there, the work, and back."""
        figures = self.generation.hardware
        return figures[TRANSITION].cycles + figures.get(reason, figures[OTHER]).cycles

    @property
    def sure(self) -> Sure:
        """How sure the least sure figure is."""
        exits = self.generation.hardware.values()
        return min(figure.sure for figure in (self.tlb_source, *self.cycles.values(), *exits))


def read_processors(path: Path | None = None, exits: Costs | None = None) -> tuple[Processor, ...]:
    """Read the processors of a table, of the bundled one unless another is given.

    exits: what exits cost, the bundled table unless another is given. Raises UnusableInput, which names the
    file and the key, for a table that cannot be used.
    """
    exits = costs.load() if exits is None else exits
    source = BUILT_IN if path is None else path
    try:
        tree = tomllib.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnusableInput(
            f"walk costs: '{source}' cannot be read: {error.strerror}; check the path"
        ) from error
    except ValueError as error:  # no TOML, or no text
        raise UnusableInput(f"walk costs: '{source}' is no TOML: {error}") from error
    if not tree:
        raise UnusableInput(f"walk costs: '{source}' has no processor; vlab/compare/walk_costs.toml has some")
    return tuple(_Reader(source, name, exits).processor(entry) for name, entry in tree.items())


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the processor ``name``, and says what is wrong with it by its key."""

    path: Path
    name: str
    exits: Costs

    def processor(self, value: object) -> Processor:
        tree = self._tree("", value)
        self._known("", tree, _KEYS)
        figures = self._tree("cycles", tree.get("cycles"))
        self._known("cycles", figures, FIGURES)
        generation = tree.get("exits")
        if generation not in self.exits.generations:
            known = ", ".join(self.exits.generations)
            raise self._wrong("exits", f"{generation!r} is no generation of the costs; choose one of {known}")
        tlb_source = {"cycles": 0, "sure": tree.get("tlb_sure"), "source": tree.get("tlb_source")}
        return Processor(
            self.name,
            self._text("title", tree.get("title")),
            self._levels("small", tree.get("small")),
            self._levels("large", tree.get("large")),
            self._figure("tlb_source", tlb_source),
            {key: self._figure(f"cycles.{key}", figures.get(key)) for key in FIGURES},
            self.exits.generations[str(generation)],
        )

    def _levels(self, key: str, value: object) -> tuple[TlbLevel, ...]:
        if not isinstance(value, list) or not value:
            raise self._wrong(key, f"{value!r} is no list of TLBs, the first level first")
        return tuple(self._level(f"{key}[{number}]", each) for number, each in enumerate(value))

    def _level(self, key: str, value: object) -> TlbLevel:
        tree = self._tree(key, value)
        self._known(key, tree, _LEVEL_KEYS)
        entries, ways, hit = (tree.get(name) for name in _LEVEL_KEYS)
        if type(entries) is not int or type(ways) is not int or not 0 < ways <= entries or entries % ways:
            raise self._wrong(key, f"{entries!r} entries do not make sets of {ways!r}; give a multiple")
        return TlbLevel(entries, ways, self._number(f"{key}.hit", hit))

    def _figure(self, key: str, value: object) -> Figure:
        tree = self._tree(key, value)
        self._known(key, tree, ("cycles", "sure", "source"))
        sure, names = tree.get("sure"), [each.name.lower() for each in Sure]
        if sure not in names:
            raise self._wrong(key, f"sure = {sure!r} is not one of {', '.join(names)}")
        cycles = self._number(f"{key}.cycles", tree.get("cycles"))
        return Figure(cycles, Sure[str(sure).upper()], self._text(f"{key}.source", tree.get("source")))

    def _number(self, key: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e9:
            raise self._wrong(key, f"{value!r} is no number of cycles from 0 to 1,000,000,000")
        return float(value)

    def _text(self, key: str, value: object) -> str:
        if not isinstance(value, str) or not value:
            raise self._wrong(key, f"{value!r} is no text")
        return value

    def _tree(self, key: str, value: object) -> Mapping[str, object]:
        if not isinstance(value, Mapping):
            raise self._wrong(key, f"{value!r} is no table; vlab/compare/walk_costs.toml shows the format")
        return value

    def _known(self, key: str, tree: Mapping[str, object], names: tuple[str, ...]) -> None:
        if unknown := [name for name in tree if name not in names]:
            raise self._wrong(key, f"{unknown[0]!r} is not known; write one of {', '.join(names)}")

    def _wrong(self, key: str, what: str) -> UnusableInput:
        where = f"{self.name}.{key}" if key else self.name
        return UnusableInput(f"walk costs: '{self.path}': {where}: {what}")
