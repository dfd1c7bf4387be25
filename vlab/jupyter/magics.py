"""The magics ``%%asm``, ``%%guest`` and ``%vm``: their names, options, help and completion.

Importing this module is cheap: what a magic needs is imported when it is used.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from vlab.errors import UnusableInput
from vlab.jupyter.options import Given, Option, complete, explain, parse, split
from vlab.jupyter.saying import polite

if TYPE_CHECKING:
    from vlab.jupyter.current import Current

NAMES: Final = {"asm": "cell", "guest": "cell", "vm": "line"}
"""The magics and their kinds."""


def _monitors() -> Sequence[str]:
    from vlab.vmm.monitors import available

    return list(dict.fromkeys(monitor for monitor, _ in available() if monitor != "paravirtual"))


def _pagings() -> Sequence[str]:
    from vlab.vmm.monitors import available

    return list(dict.fromkeys(paging for _, paging in available()))


_BITS: Final = Option("bits", "16|32|64", "width of the code [16]", lambda: ("16", "32", "64"))
ASM: Final = (
    _BITS,
    Option("monitor", "M", "none, trap-emulate, binary-translation or hardware [hardware]", _monitors),
    Option("paging", "P", "nested, shadow or direct [the monitor's first]", _pagings),
    Option("memory", "SIZE", "the guest's memory, such as 32M [16M]"),
    Option("steps", "N", "stop after N exits", kind=int),
    Option("until-halt", "", "stop when the guest waits in HLT, however long that takes"),
    Option(
        "timeout",
        "S",
        "stop after S seconds of wall time [10, none with --steps or --until-halt]",
        kind=float,
    ),
    Option("vm", "NAME", "the variable that gets the virtual machine [vm]"),
    Option("trace", "", "keep every exit, and show them"),
)
"""The options of ``%%asm``."""
GUEST: Final = (_BITS,)
"""The options of ``%%guest``."""

ASM_HELP: Final = f"""Assemble the cell, run it as a guest, and show what it did to the machine.

  %%asm [options]
  mov ax, 5
  add ax, 2

{explain(ASM)}

The syntax is GNU's with Intel operands: "mov eax, dword ptr [counter]", ".byte 1, 2", ".ascii "text"",
"label:", "# a comment". ';' separates instructions. Source cannot read files.

16-bit code becomes a boot sector: the firmware has run, and the code is at 0000:7C00. 32- and 64-bit code
is at 0x100000, in ring 0, with flat segments, a stack, all other registers 0, no IDT, and, in 64-bit mode,
page tables that map the low 4 GiB to themselves. It begins at _start if there is such a label. Code that
runs to its end stops there.

Shown are the registers before and after, with those marked that changed, the console's text, the exits by
reason, and the story if it ended in a fault. The virtual machine stays in the variable, for %vm and for
Python. The notebook's stop button (Ctrl-C) stops code that loops for ever, and says where it was.

Examples:

  %%asm --bits 64 --trace
  mov eax, 1
  cpuid

  %%asm --bits 32 --monitor trap-emulate --vm old
  pushf
  pop eax
"""

GUEST_HELP: Final = f"""Make a guest of the cell, which has a name until the kernel ends.

  %%guest NAME [options]
  code

{explain(GUEST)}

The code is as in %%asm (see %%asm?). Shown are the size of the image and the addresses of its symbols.
Boot it as any other guest, as often as you like:

  %%guest blink --bits 32
  mov byte ptr [0xB8000], 'A'

  vm = vlab.VM("blink", monitor="trap-emulate")
"""


def _vm_help() -> str:
    return f"""Look at a virtual machine and move it: the one that was made, or chosen by "use", last.

  %vm COMMAND [arguments]

{_usage()}

%vm alone says which machine is meant and how it is. What a run shows: why it stopped, what the guest wrote,
the exits, and the registers before and after. The notebook's stop button (Ctrl-C) stops a run and says where
it was. Examples:

  %vm run --until "$ "
  %vm step 10
  %vm walk 0x100000
"""


_USAGE: Final = {
    "run": (
        "[--until TEXT] [--timeout S]",
        "run until it ends, until TEXT is on the console, or for S seconds",
    ),
    "start": ("", "run in the background; other cells can be run meanwhile"),
    "pause": ("", "stop the run in the background"),
    "step": ("[N]", "run to the end of the next exit, or of the next N"),
    "back": ("[N]", "go back by one exit, or by N"),
    "snapshot": ("[NAME]", "keep this moment under NAME, or under the next number"),
    "restore": ("NAME", "go to a moment that was kept"),
    "regs": ("", "the registers, and what their bits are called"),
    "disasm": ("[N]", "the next 8 instructions, or the next N"),
    "walk": ("ADDR", "the page walk of a linear address or of the one in a register, entry by entry"),
    "exits": ("[N]", "the exits so far, or the last N one by one"),
    "trace": ("FILE", "write the exits to a .vlabtrace file"),
    "list": ("", "all virtual machines, and which one is meant"),
    "use": ("NAME", "mean the virtual machine in the variable NAME from now on"),
}
"""The commands of ``%vm``: their arguments and what they do. `vlab.jupyter.commands` carries them out."""
RUN: Final = (
    Option("until", "TEXT", "stop when the guest has written TEXT on its console"),
    Option("timeout", "S", "stop after S seconds of wall time", kind=float),
)
"""The options of ``%vm run``."""


def _usage() -> str:
    width = max(len(f"{name} {arguments}".rstrip()) for name, (arguments, _) in _USAGE.items())
    return "\n".join(
        f"  {f'{name} {arguments}'.rstrip():{width}}  {what}" for name, (arguments, what) in _USAGE.items()
    )


class Magics:
    """The magics of one IPython shell."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._current: Current | None = None

    @property
    def current(self) -> Current:
        """Which virtual machine is meant."""
        if self._current is None:
            from vlab.jupyter.current import Current

            self._current = Current(self._shell.user_ns)
        return self._current

    def asm(self, line: str, cell: str) -> object:
        """Carry ``%%asm`` out."""
        with polite():
            from vlab.jupyter.asm import asm

            return _conclude(asm(self.current, parse("%%asm", ASM, split("%%asm", line)), cell))

    def guest(self, line: str, cell: str) -> object:
        """Carry ``%%guest`` out."""
        with polite():
            from vlab.jupyter.asm import guest

            return guest(parse("%%guest", GUEST, split("%%guest", line)), cell)

    def vm(self, line: str) -> object:
        """Carry ``%vm`` out."""
        with polite():
            from vlab.jupyter.commands import COMMANDS, status

            words = split("%vm", line)
            if not words:
                return status(self.current)
            command, usage = words[0], _USAGE.get(words[0])
            if usage is None:
                near = difflib.get_close_matches(command, _USAGE, 1, 0.5)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_USAGE)}"
                raise UnusableInput(f"%vm: there is no command {command!r}; {hint}")
            given = parse(f"%vm {command}", RUN if command == "run" else (), words[1:])
            _check_words(command, usage[0], given)
            return _conclude(COMMANDS[command](self.current, given))

    def complete(self, context: Any) -> dict[str, Any]:
        """Complete the line of a magic, and code below it; IPython's own guesses are then left out."""
        from IPython.core.completer import SimpleCompletion

        line = context.text_until_cursor
        begun = re.split(r"[\s=]", line)[-1]
        before = line[: len(line) - len(begun)].split()
        first = context.full_text.lstrip().partition("\n")[0].split() or [""]
        found: Sequence[str] = ()
        if before and before[0] in ("%vm", "%%asm", "%%guest"):
            found = self._words(before[0], before[1:], begun)
        elif context.cursor_line > 0 and first[0] in ("%%asm", "%%guest"):
            from vlab.jupyter.code_words import code_words

            found = code_words(context.full_text, before, begun)
        return {
            "completions": [SimpleCompletion(text=word, type="vlab") for word in found],
            "matched_fragment": begun, "suppress": True, "ordered": True,
        }  # fmt: skip

    def _words(self, magic: str, before: Sequence[str], begun: str) -> Sequence[str]:
        if magic == "%%guest":
            return complete(GUEST, before, begun)
        if magic == "%%asm":
            if before and before[-1].rstrip("=") == "--vm":
                return [name for name in self.current.named() if name.startswith(begun)]
            return complete(ASM, before, begun)
        if not before:
            return [name for name in _USAGE if name.startswith(begun)]
        if before[0] == "run":
            return complete(RUN, before[1:], begun)
        if len(before) > 1 or before[0] not in ("use", "restore", "walk"):
            return []
        from vlab.jupyter.commands import words_for

        return [word for word in words_for(self.current, before[0]) if word.startswith(begun)]


def _conclude(outcome: object) -> object:
    """Show what a run that was interrupted came to, and let the cell fail; give any other outcome back.

    The interrupt goes on without the frames that it went through: IPython keeps it, and they hold the VM.
    """
    from vlab.jupyter.running import Interrupted

    if not isinstance(outcome, Interrupted):
        return outcome
    from IPython.display import display

    show: Callable[[object], object] = display
    show(outcome.found)
    raise outcome.pressed.with_traceback(None) from None


def _check_words(command: str, usage: str, given: Given) -> None:
    """Raise UnusableInput where a command has too few words or too many."""
    most = 0 if usage.startswith("[--") else bool(usage)
    if len(given.words) > most:
        says = f"it takes {usage} alone" if usage else "it takes nothing"
        raise UnusableInput(f"%vm {command}: {given.words[most]!r} is too much; {says}")
    if most and not given.words and not usage.startswith("["):
        raise UnusableInput(f"%vm {command}: {usage} is missing; write %vm {command} {usage}")


def register(shell: Any) -> None:
    """Put the magics into an IPython shell; once is enough, and more often does no harm."""
    if "vm" in shell.magics_manager.magics["line"] and getattr(shell, "vlab_magics", None) is not None:
        return
    magics = shell.vlab_magics = Magics(shell)

    def asm(line: str, cell: str) -> object:
        return magics.asm(line, cell)

    def guest(line: str, cell: str) -> object:
        return magics.guest(line, cell)

    def vm(line: str) -> object:
        return magics.vm(line)

    for function, text in ((asm, ASM_HELP), (guest, GUEST_HELP), (vm, _vm_help())):
        name = function.__name__
        function.__doc__ = text
        shell.register_magic_function(function, magic_kind=NAMES[name], magic_name=name)
    _matchers(shell).append(_matcher(magics))


def _matcher(magics: Magics) -> Callable[[Any], dict[str, Any]]:
    """Give what IPython's completer calls: a function of its second interface."""

    def vlab_matcher(context: Any) -> dict[str, Any]:
        return magics.complete(context)

    vlab_matcher.matcher_api_version = 2  # type: ignore[attr-defined]
    vlab_matcher.matcher_priority = 200  # type: ignore[attr-defined]
    vlab_matcher.matcher_identifier = "vlab"  # type: ignore[attr-defined]
    return vlab_matcher


def _matchers(shell: Any) -> list[Any]:
    """Give the completer's list of others' matchers; a shell without completion has none."""
    found: list[Any] = getattr(getattr(shell, "Completer", None), "custom_matchers", [])
    return found


def unregister(shell: Any) -> None:
    """Take the magics out of an IPython shell."""
    for name, kind in NAMES.items():
        shell.magics_manager.magics[kind].pop(name, None)
    matchers = _matchers(shell)
    matchers[:] = [each for each in matchers if getattr(each, "matcher_identifier", "") != "vlab"]
    shell.vlab_magics = None
