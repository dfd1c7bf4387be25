"""The assemblers: clang, GNU as, keystone. The first that is there and makes x86 code is used.

Clang and GNU as run as programs of their own in an empty directory, with limits of time, memory and output,
and give an ELF object back; keystone is a library.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from vlab.errors import UnusableInput

NAMES: Final = ("clang", "as", "keystone")
"""In the order in which they are looked for."""
TIMEOUT: Final = 10.0
"""Seconds of wall time that assembling may take."""
ABSENT: Final = (
    "assemble: no assembler is here; install clang (on Debian and Ubuntu `sudo apt install clang`, on macOS "
    "`xcode-select --install`, on Windows `winget install LLVM.LLVM`), GNU binutils for x86, or "
    "`python -m pip install keystone-engine`"
)
_SOURCE: Final = "cell.s"
_AS: Final = ("as", "x86_64-linux-gnu-as", "x86_64-elf-as", "i686-linux-gnu-as")
_LIMITS: Final = 'ulimit -c 0; ulimit -t 10; ulimit -f 131072; ulimit -v 2097152 2>/dev/null; exec "$@"'
"""CPU seconds, output in blocks of 512 bytes, memory in KiB; not every system has the last one."""
_KEPT: Final = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP", "DEVELOPER_DIR")
_MESSAGE: Final = re.compile(
    r"^(?P<file>[^:\n]*|[A-Za-z]:[^:\n]*):(?:(?P<line>\d+):)?(?:(?P<column>\d+):)? "
    r"(?P<kind>[Ff]atal error|[Ee]rror|[Ww]arning|note|Info|  Info): (?P<text>.*)$"
)
_BAD_WARNING: Final = re.compile(r"shortened|truncated|unterminated|out of range")


@dataclass(frozen=True, slots=True)
class Message:
    """What an assembler complains about. line, column: in the text that it was given. foreign: elsewhere."""

    text: str
    line: int | None = None
    column: int | None = None
    foreign: bool = False


class Refused(Exception):
    """The assembler gave messages and no object."""

    def __init__(self, messages: Sequence[Message]) -> None:
        super().__init__(f"{len(messages)} messages")
        self.messages = tuple(messages)


@dataclass(frozen=True, slots=True)
class Program:
    """An assembler that is a program: its name as in NAMES, and its path."""

    name: str
    path: str

    def assemble(self, text: str, bits: int) -> bytes:
        """Give an ELF object. Raises Refused, and UnusableInput when it takes too long or does not work."""
        with tempfile.TemporaryDirectory(prefix="vlab-asm-") as scratch:
            folder = Path(scratch)
            (folder / _SOURCE).write_bytes(text.encode())
            done = _run([self.path, *self._options(bits)], folder)
            said = done.stdout.decode("utf-8", "replace") + done.stderr.decode("utf-8", "replace")
            messages = _messages(said, text.count("\n"))
            made = folder / "cell.o"
            if done.returncode or messages or not made.exists():
                raise Refused(messages or [Message(_last_words(self.name, done.returncode, said))])
            if self.name == "as" and (folder / "cell.d").read_text("utf-8", "replace").count(" ") > 1:
                raise Refused([Message("", foreign=True)])
            return made.read_bytes()

    def _options(self, bits: int) -> list[str]:
        if self.name == "as":
            return ["--64" if bits == 64 else "--32", "--MD", "cell.d", "-o", "cell.o", _SOURCE]
        target = "x86_64-elf" if bits == 64 else "i386-elf"
        quiet = ["-fno-color-diagnostics", "-Wno-unused-command-line-argument", "-ferror-limit=20"]
        return ["-target", target, "-c", "-x", "assembler", *quiet, "-o", "cell.o", _SOURCE]


def _run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[bytes]:
    limited = ["/bin/sh", "-c", _LIMITS, "sh", *command] if os.name == "posix" else list(command)
    words = {name: os.environ[name] for name in _KEPT if name in os.environ} | {
        "LC_ALL": "C",
        "TMPDIR": str(folder),
    }
    try:
        work = subprocess.Popen(
            limited, cwd=folder, env=words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise UnusableInput(
            f"assemble: {command[0]} does not run ({error.strerror}); install it again"
        ) from None
    try:
        out, errors = work.communicate(timeout=TIMEOUT)
    except BaseException as problem:
        _kill(work)
        if not isinstance(problem, subprocess.TimeoutExpired):
            raise
        raise UnusableInput(
            f"assemble: the assembler did not come to an end within {TIMEOUT:g} s; "
            "look for a macro or .rept that goes on for ever"
        ) from None
    return subprocess.CompletedProcess(limited, work.returncode, out, errors)


def _kill(work: subprocess.Popen[bytes]) -> None:
    """End a program with its children: clang has one that does the work."""
    if os.name == "posix":
        with suppress(ProcessLookupError):
            os.killpg(work.pid, signal.SIGKILL)
    else:
        work.kill()
    work.communicate()


def _messages(said: str, lines: int) -> list[Message]:
    """Read what an assembler wrote. Where a macro's line is meant, the line that uses the macro counts."""
    found: list[Message] = []
    for text in said.splitlines():
        match = _MESSAGE.match(text)
        if match is None:
            continue
        kind, line, column = match["kind"].strip().lower(), match["line"], match["column"]
        inner = match["file"].startswith("<")
        number = None if line is None or inner else min(int(line), lines)
        message = Message(
            match["text"], number, None if inner or column is None else int(column),
            foreign=not inner and match["file"] != _SOURCE,
        )  # fmt: skip
        if "error" in kind or (kind == "warning" and _BAD_WARNING.search(match["text"])):
            found.append(message)
        elif (
            kind == "note" and "in macro instantiation" in match["text"] and found and found[-1].line is None
        ):
            found[-1] = Message(found[-1].text, number, message.column)
    return list(dict.fromkeys(found))


def _last_words(name: str, status: int, said: str) -> str:
    if status < 0 or status > 128:
        return "the assembler was stopped because the code became too large or took too long"
    return f"{name} failed: {' '.join(said.split())[-200:] or f'status {status}'}"


@lru_cache(maxsize=8)
def find_program(name: str, path: str) -> Program | None:
    """Give the program of that name in the search path ``path``, if it makes x86 code."""
    for candidate in _AS if name == "as" else (name,):
        place = shutil.which(candidate, path=path)
        if place is None or (name == "as" and not _is_gnu(place)):
            continue
        program = Program(name, place)
        try:
            if program.assemble(".intel_syntax noprefix\n.code32\nmov eax, ebx\n", 32)[:4] == b"\x7fELF":
                return program
        except (Refused, UnusableInput):
            continue
    return None


def _is_gnu(path: str) -> bool:
    try:
        said = subprocess.run([path, "--version"], capture_output=True, timeout=TIMEOUT, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    return b"GNU assembler" in said and not re.search(rb"mingw|cygwin|darwin", said)


def there() -> list[str]:
    """Give the names of the assemblers that are here, the one that is used first."""
    path = os.environ.get("PATH", os.defpath)
    return [
        name for name in NAMES if (find_spec("keystone") if name == "keystone" else find_program(name, path))
    ]
