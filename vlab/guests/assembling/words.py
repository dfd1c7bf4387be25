"""An assembler's messages in plain words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Final

_QUOTED: Final = r"[`'\"](?P<what>[^`'\"]*)'?"
_RULES: Final[tuple[tuple[str, str], ...]] = (
    (
        rf"no such instruction: {_QUOTED}|invalid instruction mnemonic {_QUOTED.replace('what', 'word')}",
        "@instruction",
    ),
    (rf"unknown pseudo-op: {_QUOTED}|unknown directive", "@directive"),
    (
        r"ambiguous operand size|unknown use of instruction mnemonic without a size suffix",
        "the size of the operand is not clear; write byte ptr, word ptr, dword ptr or qword ptr before it",
    ),
    (
        r"operand (type|size) mismatch|[iI]nvalid operand|invalid combination of",
        "this instruction does not take these operands; look at their sizes and kinds",
    ),
    (
        r"number of operands mismatch|too (few|many) operands",
        "this instruction takes another number of operands",
    ),
    (
        r"too many memory references",
        "only one operand of an instruction may be in memory; use a register between",
    ),
    (r"expecting operand after ','", "an operand is missing after the comma"),
    (
        rf"symbol {_QUOTED} is already defined",
        "the name {what!r} is defined twice; give one of them another name",
    ),
    (r"Cannot find a symbol", "there is no register and no label of this name"),
    (
        r"attempt to move \.org backwards|invalid \.org offset",
        "there is more code before this .org than fits",
    ),
    (r"(REPT|IRP) without ENDR|no matching '\.endr'", "this repetition is not ended; write .endr after it"),
    (
        r"no matching '\.endm|end of file in macro|unexpected end of file in macro",
        "this macro is not ended; write .endm",
    ),
    (r"unterminated conditional|unmatched \.ifs", "this condition is not ended; write .endif after it"),
    (r"Expected 'PTR'", "write ptr after the size: byte ptr, word ptr, dword ptr or qword ptr"),
    (
        r"only (available|supported) in 64-?bit mode|64bit mode",
        "this is for 64-bit code only; give --bits 64",
    ),
    (
        r"not supported in 64-?bit mode|not available in 64|requires: Not 64-bit",
        "there is no such thing in 64-bit code",
    ),
    (r"unterminated string|expected string", "the text has no end; close it with a double quote"),
    (r"single quote way too long|missing single quote", 'text is written in double quotes: .ascii "text"'),
    (
        rf"{_QUOTED} is not a valid (base/index|16-bit)|invalid 16-bit base",
        "this is no address that the processor can form",
    ),
    (
        r"(value )?(?P<value>0x[0-9a-f]+) (shortened|truncated)|out of range literal",
        "the number does not fit in here",
    ),
    (
        r"junk `[0-9A-Fa-f]*[hH]' after expression",
        "write a hexadecimal number with 0x in front of it: 0x10, not 10h",
    ),
    (r"out of memory", "the code became too large; look for a macro or .rept that goes on for ever"),
    (r"junk `|invalid character in input", "@expression"),
    (
        r"junk at end of line|unexpected token at start of statement",
        "this is neither an instruction nor a directive",
    ),
    (r"bad expression|unknown token in expression", "@expression"),
)
_NASM: Final = {
    "db": ".byte, or .ascii for text", "dw": ".word", "dd": ".long", "dq": ".quad", "resb": ".skip",
    "resw": ".skip",
    "times": ".fill count, size, value", "section": ".section", "segment": ".section", "global": ".globl",
    "extern": "nothing: all code is here", "align": ".balign", "org": "nothing: the origin is known",
    "bits": "--bits", "use16": "--bits 16", "use32": "--bits 32", "equ": "name = value",
    "%define": "name = value",
    "%macro": ".macro", "%include": "nothing: source here reads no files",
}  # fmt: skip
_INTEL: Final = "operands are written as Intel does: mov eax, 1"
MNEMONICS: Final = """
mov add sub mul imul div idiv inc dec neg not and or xor shl shr sar rol ror cmp test jmp je jne jz
jnz jc jnc ja jae jb jbe jg jge jl jle js jns loop call ret iret iretd iretq int int3 into push pop
pushf popf pushfd popfd pushfq popfq pusha popa lea xchg cmpxchg cpuid rdtsc rdmsr wrmsr in out insb
outsb hlt cli sti cld std nop lgdt lidt lldt ltr sgdt sidt sldt str smsw lmsw clts invlpg invd
wbinvd vmrun vmmcall vmload vmsave stgi clgi syscall sysret sysenter sysexit ud2 movzx movsx movsb
movsw movsd stosb stosw stosd lodsb lodsw lodsd scasb cmpsb rep lahf sahf cbw cwd cdq cqo leave
enter bt bts btr btc bsf bsr bswap swapgs pause lfence mfence sfence
"""
"""Instructions that are often meant."""
WORD_REGISTERS: Final = ("ax", "bx", "cx", "dx", "si", "di", "sp", "bp")


def plain(message: str, line: str, column: int | None) -> tuple[str, int | None]:
    """Say a message for the source line ``line`` in plain words; give a column too where it can be found."""
    for pattern, words in _RULES:
        found = re.search(pattern, message)
        if found is None:
            continue
        groups = {name: value for name, value in found.groupdict().items() if value}
        if words == "@instruction":
            return _instruction(line, column, groups.get("what", groups.get("word", "")))
        if words == "@directive":
            what = groups.get("what") or _first(line)
            return f"there is no directive {what!r}", column or _find(line, what)
        if words == "@expression":
            return _hint(line) or f"this is no expression; the assembler says: {message}", column or _start(
                line
            )
        said = words.format(what=groups.get("what", ""))
        return said, column or _find(line, groups.get("what", "")) or _start(line)
    return f"the assembler says: {message}", column or _start(line)


def _instruction(line: str, column: int | None, what: str) -> tuple[str, int | None]:
    """Say that something is no instruction, and what may be meant: another assembler's word."""
    words = what.split()
    name = words[0] if words else ""
    place = column if column is not None else _find(line, name)
    rest = line[: (place or 1) - 1]
    if ";" in rest:
        return "what follows a ';' is the next instruction; write '#' before a comment", place
    for word in (name, *words[1:2]):
        if word.lower() in _NASM:
            return f"{word!r} is another assembler's word; here it is {_NASM[word.lower()]}", _find(
                line, word
            )
    if "%" in line or "$" in line:
        return f"{name!r} is no instruction; {_INTEL}", place
    near = difflib.get_close_matches(name.lower(), MNEMONICS.split(), 1, 0.6)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{name!r} is no instruction{hint}", place


def _hint(line: str) -> str:
    """Guess what is meant from how the line looks, "" for no guess."""
    if re.search(r"%[a-z]|\$\w", line):
        return _INTEL
    if re.search(r"\b[0-9][0-9A-Fa-f]*[hH]\b", line):
        return "write a hexadecimal number with 0x in front of it: 0x10, not 10h"
    odd = next((letter for letter in line if letter > "~"), None)
    return "" if odd is None else f"{odd!r} has no meaning here; write '#' before a comment"


def undefined(name: str, line: str, known: Iterable[str]) -> tuple[str, int | None]:
    """Say that nothing has this name."""
    if re.fullmatch(r"r([abcd]x|[sd]i|[sb]p|ip|[89]|1[0-5])[dwb]?", name.lower()):
        return f"the register {name} is there in 64-bit code only; give --bits 64", _find(line, name)
    registers = [f"{prefix}{rest}" for prefix in ("e", "") for rest in WORD_REGISTERS]
    near = difflib.get_close_matches(name, [*known, *registers, "cr0", "cr3", "cr4"], 1, 0.6)
    hint = f"did you mean {near[0]}?" if near else f"define it with a label, {name}:"
    return f"there is no register and no label {name!r}; {hint}", _find(line, name)


def _find(line: str, what: str) -> int | None:
    """Give the column of a word in a line, from 1."""
    found = re.search(rf"(?<![\w.]){re.escape(what)}(?!\w)", line) if what else None
    return None if found is None else found.start() + 1


def _first(line: str) -> str:
    found = re.search(r"\.\w+", line)
    return found[0] if found else line.strip()


def _start(line: str) -> int:
    return len(line) - len(line.lstrip()) + 1
