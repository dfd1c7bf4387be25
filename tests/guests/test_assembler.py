"""Assembling: the bytes, where each came from, what is said about mistakes; with each assembler there is."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlab.errors import UnusableInput
from vlab.guests.assembler import AssemblyError, Problem, assemble, assemblers
from vlab.guests.assembling import dialect, guard, objects, prepare, tools, words

HERE = assemblers()
needs_one = pytest.mark.skipif(not HERE, reason="no assembler is here")


@pytest.fixture(params=HERE or ["none"])
def tool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if not HERE:
        pytest.skip("no assembler is here")
    monkeypatch.setattr(tools, "there", lambda: [request.param])
    return request.param


@pytest.fixture
def program(tool: str) -> str:
    """One of those that know sections and say where a mistake is."""
    if tool == "keystone":
        pytest.skip("keystone does not do this")
    return tool


def mistake(source: str, bits: int = 32) -> AssemblyError:
    with pytest.raises(AssemblyError) as caught:
        assemble(source, bits=bits)
    return caught.value


# --- what comes out ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "source", "code"),
    [
        (16, "mov ax, 5", "b8 05 00"),
        (32, "mov ax, 5", "66 b8 05 00"),
        (64, "mov rax, cr3", "0f 20 d8"),
        (16, "again: cli\nhlt\njmp again", "fa f4 eb fc"),
        (32, 'jmp over\n.ascii "hi"\nover: nop', "eb 02 68 69 90"),
        (16, "call there\nret\nthere: ret", "e8 01 00 c3 c3"),
        (32, ".rept 3\nnop\n.endr\nhlt", "90 90 90 f4"),
        (32, "mov eax, 1 # one\n// two\nnop // three\nhlt", "b8 01 00 00 00 90 f4"),
        (32, "nop; hlt", "90 f4"),
        (32, "", ""),
    ],
)
def test_source_becomes_the_bytes_that_the_manual_gives(tool: str, bits: int, source: str, code: str) -> None:
    assert assemble(source, bits=bits).code.hex(" ") == code


def test_labels_have_addresses_from_the_origin_on(tool: str) -> None:
    made = assemble("start: nop\nvalue: .long start\nend:", bits=32, origin=0x100000)
    assert made.code == b"\x90" + struct.pack("<I", 0x100000)
    assert made.symbols == {"start": 0x100000, "value": 0x100001, "end": 0x100005}
    assert (made.origin, made.bits, made.tool) == (0x100000, 32, tool)


def test_a_16_bit_address_is_counted_from_the_origin(program: str) -> None:
    made = assemble("mov si, offset text\ncall 0x7C10\ntext: .byte 7", bits=16, origin=0x7C00)
    assert made.code.hex(" ") == "be 06 7c e8 0a 00 07"


def test_64_bit_code_refers_to_data_by_distance_and_by_address(program: str) -> None:
    made = assemble("lea rdi, [rip + data]\nmov rax, offset data\ndata: .quad data", bits=64, origin=0x100000)
    assert made.code[3:7] == struct.pack("<i", made.symbols["data"] - 0x100007)
    assert made.code[-8:] == struct.pack("<Q", made.symbols["data"])


def test_data_follows_the_code_and_zeros_for_what_is_reserved_come_last(program: str) -> None:
    made = assemble(".bss\nroom: .skip 4\n.data\nx: .byte 7\n.text\nnop\n.section .rodata\n.byte 9", bits=32)
    assert sorted(made.code[1:3]) == [7, 9]
    assert made.code[0] == 0x90
    assert made.code[made.symbols["room"] :] == bytes(4)


def test_each_line_of_the_listing_has_its_bytes_and_its_address(tool: str) -> None:
    made = assemble("start: mov ax, 5\n\n  .byte 1, 2\njmp start", bits=16, origin=0x7C00)
    assert [(line.number, line.address, line.code.hex()) for line in made.listing] == [
        (1, 0x7C00, "b80500"), (3, 0x7C03, "0102"), (4, 0x7C05, "ebf9"),
    ]  # fmt: skip
    assert made.listing[1].text == "  .byte 1, 2"
    assert str(made).splitlines()[0] == "   1  00007c00  b8 05 00                  start: mov ax, 5"


def test_a_repetition_a_macro_and_a_condition_are_listed_where_they_begin_or_are_used(program: str) -> None:
    source = ".macro two\nnop\nnop\n.endm\n.rept 2\nhlt\n.endr\ntwo\n.if 1\ncli\n.else\nsti\n.endif\nret"
    made = assemble(source, bits=32)
    assert [(line.number, line.code.hex()) for line in made.listing] == [
        (5, "f4f4"), (8, "9090"), (9, "fa"), (14, "c3"),
    ]  # fmt: skip


def test_given_symbols_are_known_and_not_given_back(tool: str) -> None:
    made = assemble("mov eax, PORT\nhere:", bits=32, symbols={"PORT": 0x3F8})
    assert made.code == b"\xb8" + struct.pack("<I", 0x3F8)
    assert made.symbols == {"here": 5}


def test_the_same_source_gives_the_same_result(tool: str) -> None:
    source = "a: nop\nb: jmp a\n.long b"
    assert assemble(source, bits=32) == assemble(source, bits=32)


def test_a_comment_over_lines_is_no_code(program: str) -> None:
    assert assemble("nop /* one\nhlt\n*/ \ncli", bits=32).code == b"\x90\xfa"


def test_windows_line_ends_are_line_ends(tool: str) -> None:
    assert [line.number for line in assemble("nop\r\nnop\r\n", bits=32).listing] == [1, 2]


# --- mistakes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "nop\n  mvo eax, 1\n",
            "line 2: 'mvo' is no instruction; did you mean mov?\n      mvo eax, 1\n      ^",
        ),
        (
            "db 1",
            "line 1: 'db' is another assembler's word; here it is .byte, or .ascii for text\n    db 1\n    ^",
        ),
    ],
)
def test_a_mistake_is_shown_with_its_line_and_a_caret(tool: str, source: str, message: str) -> None:
    assert str(mistake(source)) == message


@pytest.mark.parametrize(
    ("source", "bits", "part"),
    [
        (
            "mov eax, 1 ; the answer",
            32,
            "what follows a ';' is the next instruction; write '#' before a comment",
        ),
        ("mov [0x1000], 5", 32, "the size of the operand is not clear; write byte ptr, word ptr"),
        ("mov al, ebx", 32, "this instruction does not take these operands"),
        ("movl $1, %eax", 32, "operands are written as Intel does: mov eax, 1"),
        ("mov eax, rax", 32, "give --bits 64"),
        ("x: nop\nx: nop", 32, "line 2: the name 'x' is defined twice; give one of them another name"),
        ("mov eax, 10h", 32, "write a hexadecimal number with 0x in front of it: 0x10, not 10h"),
        (".bogus 1", 32, "there is no directive '.bogus'"),
        ('.ascii "abc', 32, "the text has no end; close it with a double quote"),
        (".org 16\n.org 4", 32, "line 2: there is more code before this .org than fits"),
        (".rept 2\nnop", 32, "this repetition is not ended; write .endr after it"),
        (".if 1\nnop", 32, "this condition is not ended; write .endif after it"),
        ("[bits 16]", 16, "this is neither an instruction nor a directive"),
        ("mov eax, 1 é", 32, "'é' has no meaning here"),
        ("jmp strat\nstart: nop", 32, "there is no register and no label 'strat'; did you mean start?"),
        ("nop\nmov eax, ebz", 32, "line 2: there is no register and no label 'ebz'"),
        ("call qqqqqq", 32, "define it with a label, qqqqqq:"),
        (".byte far\n.org 0x1000\nfar:", 32, "does not fit"),
        (".macro m a\nnop\nfoo \\a\n.endm\nm eax", 32, ": 'foo' is no instruction"),
    ],
)
def test_a_mistake_is_told_in_plain_words(program: str, source: str, bits: int, part: str) -> None:
    if program == "clang" and source.startswith(".byte far"):
        pytest.skip("clang cuts such a value off in silence")
    assert part in str(mistake(source, bits))


def test_an_error_has_the_place_for_programs_too(program: str) -> None:
    error = mistake("nop\n\tjmp nowhere")
    assert (error.line, error.column, error.text) == (2, 6, "\tjmp nowhere")
    assert str(error).endswith("\n    \tjmp nowhere\n    \t    ^")


def test_of_many_mistakes_the_first_three_are_shown(program: str) -> None:
    error = mistake("\n".join(["foo"] * 5))
    assert len(error.problems) == 5
    assert str(error).endswith("and 2 more mistakes")
    assert [problem.line for problem in error.problems] == [1, 2, 3, 4, 5]


def test_code_without_end_is_stopped(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "TIMEOUT", 1.0)
    with pytest.raises(UnusableInput, match=r"goes on for ever|became too large"):
        assemble(".rept 1000000000\nnop\n.endr", bits=32)


def test_code_that_is_too_large_is_refused(program: str) -> None:
    assert "became too large" in str(mistake(".space 0x7fffffff")) or "16 MiB" in str(
        mistake(".space 0x7fffffff")
    )
    assert "at most 16 MiB are possible" in str(mistake(".bss\n.skip 0x2000000"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits": 8}, "bits: 8 is not possible; give 16, 32 or 64"),
        ({"bits": True}, "bits: True is not possible; give 16, 32 or 64"),
        ({"origin": -1}, "origin: -1 is no address; give a whole number from 0, such as 0x7C00"),
        ({"origin": "0"}, "origin: '0' is no address; give a whole number from 0, such as 0x7C00"),
        ({"symbols": {"a b": 1}}, "symbols: 'a b' is not possible as a name; use letters, digits and '_'"),
        ({"symbols": {"a": "1"}}, "symbols: a is '1'; give a whole number of at most 64 bits"),
        ({"source": None}, "source: None is no text; give the assembly as a string"),
    ],
)
def test_an_argument_that_is_no_use_is_refused(arguments: dict[str, object], message: str) -> None:
    source = arguments.pop("source", "nop")
    with pytest.raises(UnusableInput) as caught:
        assemble(source, **arguments)  # type: ignore[arg-type]
    assert str(caught.value) == message


@pytest.mark.parametrize("letter", ["\0", "\x1b", "\ud800", "\x0c"])
def test_a_character_that_no_source_has_is_refused_where_it_is(letter: str) -> None:
    error = mistake(f"nop\nno{letter}p")
    assert (error.line, error.column) == (2, 3)
    assert str(error).startswith(
        f"line 2: the character {letter!r} cannot be in source; delete it\n    no?p\n      ^"
    )


def test_without_an_assembler_it_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(tools, "find_spec", lambda name: None)
    with pytest.raises(UnusableInput) as caught:
        assemble("nop")
    assert str(caught.value) == tools.ABSENT
    assert "sudo apt install clang" in tools.ABSENT
    assert "pip install keystone-engine" in tools.ABSENT


@pytest.mark.skipif(os.name != "posix", reason="makes a shell script")
def test_a_program_of_the_right_name_that_is_no_assembler_for_x86_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("clang", "as"):
        (tmp_path / name).write_text("#!/bin/sh\necho no >&2\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tools, "find_spec", lambda name: None)
    assert assemblers() == []


@needs_one
def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assemble("nop", bits=32)
    mistake("foo")
    assert list(tmp_path.iterdir()) == []


# --- source reads no files ---------------------------------------------------------------------------------

SECRET = "vlab-secret"


@pytest.mark.parametrize(
    "source",
    [
        '.incbin "{path}"',
        'nop; .INCBIN "{path}"',
        'x: .include "{path}"',
        '.inc\\()bin "{path}"',
        '.macro m a\n.inc\\a "{path}"\n.endm\nm bin',
        '.macro m a\n.inc\\a\\() "{path}"\n.endm\nm bin',
        '.macro m a b\n\\a\\b "{path}"\n.endm\nm .inc bin',
        '.macro m a b\n\\a\\()\\b "{path}"\n.endm\nm .inc bin',
        '.macro m a\n\\a\\()bin "{path}"\n.endm\nm .inc',
        '.macro m a\n.\\a "{path}"\n.endm\nm incbin',
        '.macro m A\n.inc\\a "{path}"\n.endm\nm bin',
        '.irp a, bin, lude\n.inc\\a "{path}"\n.endr',
        '.irpc a, bi\n.inc\\a\\()n "{path}"\n.endr',
        '.altmacro\n.macro m a\n.inc&a "{path}"\n.endm\nm bin',
        '.macro o p\n.macro m \\p\n.inc\\a "{path}"\n.endm\n.endm\no a\nm bin',
        '.macro m a:vararg\nnop \\a\n.endm\nm ; .incbin "{path}"',
        '.mri 1\n incbin "{path}"',
    ],
)
def test_source_that_would_read_a_file_is_refused(tmp_path: Path, source: str) -> None:
    path = tmp_path / "file"
    path.write_text(SECRET)
    error = mistake(source.replace("{path}", str(path)))
    assert SECRET not in str(error)
    assert "refused" in str(error) or ".include or .incbin" in str(error)


@pytest.mark.parametrize(
    "source",
    [
        "# .include is not possible here\nnop",
        ".macro isr n\nisr_\\n: push \\n\n.endm\nisr 3",
        '.macro say t\n.ascii "\\t: in\\r\\n"\n.endm\nsay hello',
        ".irp r, eax, ebx\npush \\r\n.endr",
        '.ascii "include\\r\\n"',
        "include: jmp include",
    ],
)
def test_source_that_only_looks_like_it_is_assembled(program: str, source: str) -> None:
    assert assemble(source, bits=32).code


def test_a_file_that_an_assembler_read_all_the_same_is_noticed(tmp_path: Path, program: str) -> None:
    """The second lock: GNU as says which files it read, and messages about other files are not shown."""
    path = tmp_path / "file"
    path.write_text("foo_is_secret eax\n")
    found = tools.find_program(program, os.environ["PATH"])
    assert found is not None
    with pytest.raises(tools.Refused) as caught:
        found.assemble(f'.include "{path}"\n', 32)
    assert any(message.foreign for message in caught.value.messages)


def test_what_is_longer_than_a_person_writes_is_refused() -> None:
    assert "longer than 1 MiB" in str(mistake("nop\n" * 400_000))


@given(
    st.lists(
        st.sampled_from([".inc", "bin", "lude", "\\a", "\\b", "\\()", ".", "in", "x", "_", " "]), max_size=6
    )
)
def test_no_pieces_make_a_refused_word_unnoticed(pieces: list[str]) -> None:
    """Put the pieces together as an assembler does: the guard has noticed each dangerous one."""
    body = "".join(pieces)
    for first in (".inc", "bin", ".i", "lude", "ncbin"):
        for second in ("bin", "lude", "", ".include", "n"):
            made = body.replace("\\a", first).replace("\\b", second).replace("\\()", "")
            if any(word in (".include", ".incbin") for word in made.split()):
                with pytest.raises(AssemblyError):
                    guard.check(
                        [f".macro m a b\n{body}".split("\n")[0], body, ".endm", f"m {first} {second}"]
                    )


# --- the parts ---------------------------------------------------------------------------------------------


def test_a_message_of_clang_about_a_macro_counts_where_the_macro_is_used() -> None:
    said = (
        "<instantiation>:1:1: error: invalid instruction mnemonic 'foo'\nfoo eax\n^~~\n"
        "cell.s:6:1: note: while in macro instantiation\nm eax\n^\n"
    )
    assert tools._messages(said, 9) == [tools.Message("invalid instruction mnemonic 'foo'", 6, 1)]


@pytest.mark.parametrize(
    ("message", "line", "told"),
    [
        ("invalid instruction mnemonic 'mvo'", "mvo eax, 1", "'mvo' is no instruction; did you mean mov?"),
        (
            "ambiguous operand size for instruction 'mov'",
            "mov [1], 5",
            "the size of the operand is not clear",
        ),
        ("register %rax is only available in 64-bit mode", "mov eax, rax", "give --bits 64"),
        ("Expected 'PTR' or 'ptr' token!", "mov dword [eax], 5", "write ptr after the size"),
        ("unmatched .ifs or .elses", "nop", "write .endif after it"),
        ("something new", "nop", "the assembler says: something new"),
        ("symbol 'x' is already defined", "x: nop", "the name 'x' is defined twice"),
    ],
)
def test_the_words_of_clang_are_known_as_well(message: str, line: str, told: str) -> None:
    assert told in words.plain(message, line, 1)[0]


def test_near_calls_and_returns_of_16_bit_code_are_written_out_for_clang() -> None:
    lines = ["x: call y # go", "ret", "ret 4", "call bx", "call word ptr [bx]", ".code32", "ret"]
    assert dialect.for_llvm(lines, 16, numbers=True) == [
        "x: .byte 0xE8; .short y - . - 2 # go", ".byte 0xC3", ".byte 0xC2; .short 4",
        "call bx", "call word ptr [bx]", ".code32", "ret",
    ]  # fmt: skip


def test_marks_are_put_where_a_label_may_stand() -> None:
    lines = ["nop", "# no", ".macro m", "hlt", ".endm", "m /* a", "b */", "cli"]
    made = prepare.prepare(lines, [".text"], marked=True)
    assert sorted(made.widths) == [1, 6, 8]
    assert made.above == 1
    assert len(made.text.splitlines()) == len(lines) + 1


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"MZ" + bytes(100)])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no ELF object"):
        objects.read(data)


def test_a_problem_without_a_place_is_its_message() -> None:
    assert str(Problem("it is so")) == "it is so"
    assert str(Problem("it is so", 3)) == "line 3: it is so"


@pytest.mark.skipif("keystone" in sys.modules, reason="keystone is here")
def test_what_is_used_is_said_in_order() -> None:
    assert [name for name in tools.NAMES if name in HERE] == HERE
