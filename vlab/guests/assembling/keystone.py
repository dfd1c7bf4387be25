"""Assembling with keystone, a library that anyone can install with pip where there is no compiler.

It gives bytes and no symbols, so the source is followed by a table of its labels, which is cut off again. It
knows no sections, and says what is wrong but not where: the first line that fails by itself is taken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

from vlab.guests.assembling.objects import SIZE_MAXIMUM
from vlab.guests.assembling.prepare import MARK, Prepared
from vlab.guests.assembling.tools import Message, Refused

_LABEL: Final = re.compile(r"([A-Za-z_][\w$.]*):")
_SKIPPED: Final = re.compile(r"\s*\.(intel_syntax|code\d+|text|globa?l)\b.*", re.IGNORECASE)
_SECTION: Final = re.compile(r"\s*(?:[\w.$]+:\s*)*\.(section|data|bss|pushsection)\b", re.IGNORECASE)


def assemble(prepared: Prepared, bits: int, origin: int) -> tuple[bytes, dict[str, int]]:
    """Give code and the addresses of its labels, the line marks among them. Raises Refused."""
    engine: Any = import_module("keystone")
    lines = ["" if _SKIPPED.fullmatch(line) else line for line in prepared.text.split("\n")]
    for number, line in enumerate(lines, 1):
        if _SECTION.match(line):
            raise Refused([Message("keystone knows no sections; put the data after the code", number)])
    labels = list(dict.fromkeys(name for line in lines for name in _LABEL.findall(_bare(line))))
    word = 8 if bits == 64 else 4
    table = [f"{'.quad' if word == 8 else '.long'} {name}" for name in labels]
    machine = engine.Ks(
        engine.KS_ARCH_X86, {16: engine.KS_MODE_16, 32: engine.KS_MODE_32, 64: engine.KS_MODE_64}[bits]
    )
    try:
        found, _count = machine.asm("\n".join([*lines, *table]).encode(), origin)
    except engine.KsError as error:
        raise Refused([_where(engine, machine, lines, error)]) from None
    if len(found or ()) > SIZE_MAXIMUM:
        raise Refused([Message(f"out of memory: {len(found):,} bytes")])
    data = bytes(found or b"")
    end = len(data) - word * len(labels)
    values = [
        int.from_bytes(data[end + word * n : end + word * (n + 1)], "little") for n in range(len(labels))
    ]
    return data[:end], dict(zip(labels, values, strict=True))


def _bare(line: str) -> str:
    return re.sub(r'"(?:[^"\\]|\\.)*"|#.*', "", line)


def _where(engine: Any, machine: Any, lines: Sequence[str], error: Any) -> Message:
    """Find the line that keystone means: the first that cannot be assembled even alone."""
    said = str(error).partition(" (KS_")[0]
    for number, line in enumerate(lines, 1):
        bare = re.sub(rf"{MARK}\d+: ", "", line)
        try:
            machine.asm(bare.encode(), 0)
        except engine.KsError as alone:
            if alone.errno == error.errno:
                words = f"invalid instruction mnemonic '{(bare.split() or [''])[0]}'"
                missing = alone.errno == engine.KS_ERR_ASM_MNEMONICFAIL
                return Message(words if missing else said, number)
    return Message(said)
