"""A student's code answers alike in this process and in a jail: values, errors, objects, calls back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest

from vlab.errors import UnusableInput
from vlab.grading.exercise import Broken
from vlab.grading.facade import Facade, Function
from vlab.grading.jail.launch import Zygote
from vlab.grading.jail.student import JailedStudent
from vlab.grading.linked import LinkedStudent
from vlab.grading.local import LocalStudent
from vlab.grading.student import NotWritten, Place, Stopped, Student, StudentError

New = Callable[[str], LinkedStudent]


class Cpu(Facade):
    """A machine's part, as a lesson would offer it."""

    offers = ("read", "write", "twin", "fail", "odd")
    fields = ("rip",)
    read_only = ("cr3",)

    def __init__(self) -> None:
        self.rip, self.cr3 = 0x1000, 0x2000
        self.memory = bytearray(64)
        self.failure: Exception = ValueError("no such address: 0x40")
        self.other: Cpu | None = None

    def read(self, address: int, size: int = 1) -> bytes:
        return bytes(self.memory[address : address + size])

    def write(self, address: int, data: bytes) -> None:
        self.memory[address : address + len(data)] = data

    def twin(self) -> Cpu:
        self.other = self.other or Cpu()
        return self.other

    def fail(self) -> None:
        raise self.failure

    def odd(self) -> object:
        return {1, 2}


class Memory(Facade):
    offers = ("__getitem__", "__setitem__", "__len__", "__contains__")

    def __init__(self) -> None:
        self.bytes = {3: 7}

    def __getitem__(self, address: int) -> int:
        return self.bytes[address]

    def __setitem__(self, address: int, value: int) -> None:
        self.bytes[address] = value

    def __len__(self) -> int:
        return len(self.bytes)

    def __contains__(self, address: int) -> bool:
        return address in self.bytes


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as zygote:
        yield zygote


@pytest.fixture(params=["here", "jail"])
def new(request: pytest.FixtureRequest, zygote: Zygote) -> Iterator[New]:
    made: list[LinkedStudent] = []

    def make(source: str) -> LinkedStudent:
        if request.param == "here":
            made.append(LocalStudent.of_source(source))
        else:
            made.append(JailedStudent(zygote, source, 10))
        return made[-1]

    yield make
    for each in made:
        each.close()


def error_of(work: Callable[[], object]) -> StudentError:
    with pytest.raises(StudentError) as caught:
        work()
    return caught.value


def fails(new: New, expression: str, *arguments: object) -> StudentError:
    student = new(f"def f(*given):\n    return {expression}")
    return error_of(lambda: student.call("f", *arguments))  # type: ignore[arg-type]


# --- values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [None, True, False, 0, -1, 2**64, -(2**64), 2**4095, 0.5, -0.0, math.inf, "", "text", "\u00e9\ud800\n\0",
     b"", bytes(range(256)), [], [1, [2, [b"3"]]], {}, {"b": 1, "d": {"f": b""}, "p": None, "is": []}],
)  # fmt: skip
def test_plain_data_comes_back_as_it_went(new: New, value: object) -> None:
    back = new("def f(x): return x").call("f", value)  # type: ignore[arg-type]
    assert back == value
    assert type(back) is type(value)
    assert repr(back) == repr(value)


def test_a_float_that_is_no_number_comes_back(new: New) -> None:
    back = new("def f(x): return x").call("f", math.nan)
    assert isinstance(back, float)
    assert math.isnan(back)


def test_sequences_arrive_as_lists_and_bytes_as_bytes(new: New) -> None:
    student = new("def f(x): return [type(x).__name__, (1, (2,)), bytearray(b'ab'), memoryview(b'cd')]")
    assert student.call("f", (1, 2)) == ["list", [1, [2]], b"ab", b"cd"]


def test_registers_and_enumerations_go_as_numbers(new: New) -> None:
    student = new(
        "from vlab.isa.control import CR0\nimport enum\n"
        "class E(enum.IntEnum):\n    A = 5\n"
        "class S(str): pass\nclass F(float): pass\n"
        "def f(x): return [CR0(x).replace(PG=1), E.A, S('s'), F(1)]"
    )
    back = student.call("f", 1)
    assert back == [0x8000_0001, 5, "s", 1.0]
    assert [type(each) for each in back] == [int, int, str, float]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("{1}", "a set"),
        ("object()", "an object"),
        ("f", "a function"),
        ("(n for n in [1])", "a generator"),
        ("[1j]", "a complex"),
        ("{1: 2}", "a dict with an int as a key, which must be text"),
        ("1 << 4096", "a number of 4097 bits"),
    ],
)
def test_what_is_no_plain_data_is_refused_by_name(new: New, expression: str, what: str) -> None:
    error = fails(new, expression)
    assert error.kind == "TypeError"
    assert error.message == f"your code returned {what}: give a number, text, bytes, a list or a dict"


def test_what_cannot_be_passed_to_the_machine_is_refused_with_its_place(new: New) -> None:
    error = fails(new, "given[0].write(0, {1})", Cpu())
    assert error.message == (
        "your code passed a set to cpu.write: give a number, text, bytes, a list or a dict"
    )
    assert error.place == Place(2, "    return given[0].write(0, {1})")


def test_what_is_no_value_of_ours_is_our_fault(new: New) -> None:
    with pytest.raises(ValueError, match="student code cannot be given a set"):
        new("def f(x): return x").call("f", {1})  # type: ignore[arg-type]


# --- the cell ---------------------------------------------------------------------------------------------


def test_what_the_cell_defines(new: New) -> None:
    student: Student = new("def f(): pass\nx = 1")
    assert student.defines("f")
    assert student.defines("x")
    assert not student.defines("g")
    assert not student.defines("print")


def test_a_name_without_meaning_and_one_that_is_no_function(new: New) -> None:
    student = new("x = 1")
    assert error_of(lambda: student.call("f")).message == "the cell does not define 'f'"
    assert error_of(lambda: student.call("x")).message == "'x' is an int: it must be a function or a class"


def test_a_cell_that_does_not_parse(new: New) -> None:
    error = error_of(lambda: new("x = 1\ndef f(:\n    pass"))
    assert (error.kind, error.place) == ("SyntaxError", Place(2, "def f(:"))


def test_a_cell_that_fails_as_it_runs(new: New) -> None:
    error = error_of(lambda: new("x = 1\ny = x / 0"))
    assert (
        str(error)
        == "your code raised ZeroDivisionError: division by zero in line 2 of the cell, `y = x / 0`"
    )


def test_a_cell_keeps_its_state(new: New) -> None:
    student = new("n = 0\ndef f():\n    global n\n    n += 1\n    return n")
    assert [student.call("f") for _ in range(3)] == [1, 2, 3]


def test_dataclasses_and_annotations_work(new: New) -> None:
    source = (
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\nfrom typing import get_type_hints\n"
        "@dataclass\nclass P:\n    x: int = 3\n"
        "def f(): return [repr(P(4)), sorted(get_type_hints(P, globals())), __name__]"
    )
    assert new(source).call("f") == ["P(x=4)", ["x"], "__main__"]


# --- errors -----------------------------------------------------------------------------------------------


def test_an_exception_is_told_with_the_innermost_line_of_the_cell(new: New) -> None:
    student = new("import json\ndef g(x):\n    return json.loads(x)\ndef f(x):\n    return g(x)")
    error = error_of(lambda: student.call("f", "{"))
    assert error.kind == "JSONDecodeError"
    assert error.place == Place(3, "    return json.loads(x)")
    assert student.call("f", "1") == 1


def test_what_is_not_written_yet_says_so(new: New) -> None:
    student = new('def f():\n    raise NotImplementedError("write cli")')
    with pytest.raises(NotWritten, match=r"^not written yet: write cli$") as caught:
        student.call("f")
    assert caught.value.place == Place(2, '    raise NotImplementedError("write cli")')


@pytest.mark.parametrize("leave", ["raise SystemExit", "import sys; sys.exit(3)"])
def test_leaving_stops_the_student_for_good(new: New, leave: str) -> None:
    student = new(f"def f():\n    {leave}\ndef g(): return 1")
    for name in ("f", "g"):
        with pytest.raises(Stopped, match=r"^your code ended its process before it answered$"):
            student.call(name)


def test_recursion_without_end(new: New) -> None:
    assert fails(new, "f()").kind == "RecursionError"


def test_an_exception_whose_text_fails(new: New) -> None:
    student = new("class E(Exception):\n    def __str__(self): return 1 / 0\ndef f(): raise E")
    error = error_of(lambda: student.call("f"))
    assert (error.kind, error.message) == ("E", "(its text cannot be had: ZeroDivisionError)")


def test_an_exception_that_hides_where_it_was_raised(new: New) -> None:
    student = new(
        "class E(Exception):\n    @property\n    def __traceback__(self): return 1 / 0\ndef f(): raise E('x')"
    )
    error = error_of(lambda: student.call("f"))
    assert (error.kind, error.message) == ("Exception", "it cannot be told which")


def test_an_exception_that_is_none_of_exceptions(new: New) -> None:
    student = new("class E(BaseException): pass\ndef f(): raise E('odd')")
    assert error_of(lambda: student.call("f")).message == "odd"


def test_a_wrong_number_of_arguments_is_pythons_own_sentence(new: New) -> None:
    assert "takes 0 positional arguments but 1 was given" in error_of(
        lambda: new("def f(): pass").call("f", 1)
    ).message  # fmt: skip


def test_a_student_that_was_let_go_answers_no_more(new: New) -> None:
    student = new("def f(): return 1")
    student.close()
    student.close()
    with pytest.raises(Stopped, match="this student was let go"):
        student.call("f")


# --- facades ----------------------------------------------------------------------------------------------


def test_methods_and_fields_reach_the_machine(new: New) -> None:
    cpu = Cpu()
    student = new(
        "def f(cpu):\n    cpu.write(1, data=b'ab')\n    cpu.rip += 2\n"
        "    return [cpu.read(0, size=4), cpu.rip, cpu.cr3]"
    )
    assert student.call("f", cpu) == [b"\0ab\0", 0x1002, 0x2000]
    assert cpu.rip == 0x1002
    assert cpu.memory[1:3] == b"ab"


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("given[0].reed(0)", "cpu has no 'reed'; it has: read, write, twin, fail, odd, rip, cr3"),
        ("given[0].memory", "cpu has no 'memory'; it has: read, write, twin, fail, odd, rip, cr3"),
        ("given[0]()", "'cpu' object is not callable"),
        ("given[0][0]", "'cpu' object is not subscriptable"),
        ("setattr(given[0], 'rax', 1)", "cpu has no 'rax' to assign; what can be: rip"),
        ("setattr(given[0], 'cr3', 1)", "cpu.cr3 cannot be assigned"),
        ("setattr(given[0], 'read', 1)", "cpu.read cannot be assigned"),
        ("given[0].read()", "Cpu.read() missing 1 required positional argument: 'address'"),
        ("given[0].fail()", "no such address: 0x40"),
    ],
)
def test_what_a_facade_does_not_take_is_explained(new: New, expression: str, message: str) -> None:
    error = fails(new, expression, Cpu())
    assert error.message == message
    assert error.place == Place(2, f"    return {expression}")


def test_a_stand_in_says_what_it_is(new: New) -> None:
    student = new(
        "def f(cpu): return [repr(cpu), dir(cpu), hasattr(cpu, 'x'), cpu == cpu.twin(), cpu is cpu]"
    )
    names = ["cr3", "fail", "odd", "read", "rip", "twin", "write"]
    said = "<cpu: read, write, twin, fail, odd, rip, cr3>"
    assert student.call("f", Cpu()) == [said, names, False, False, True]


def test_facades_come_and_go_as_themselves(new: New) -> None:
    cpu = Cpu()
    student = new(
        "def f(cpu):\n    assert cpu.twin() is cpu.twin()\n    return {'self': cpu, 'twin': cpu.twin()}"
    )
    back = student.call("f", cpu)
    assert isinstance(back, dict)
    assert back["self"] is cpu
    assert back["twin"] is cpu.other


def test_special_methods_can_be_offered(new: New) -> None:
    memory = Memory()
    student = new("def f(m):\n    m[4] = m[3] + 1\n    return [len(m), 4 in m, 5 in m]")
    assert student.call("f", memory) == [2, True, False]
    assert memory.bytes == {3: 7, 4: 8}
    assert fails(new, "given[0][9]", memory).kind == "KeyError"


def test_a_function_of_ours_is_called(new: New) -> None:
    assert new("def f(g): return g(2) + 1").call("f", Function(lambda n: n * 10)) == 21  # type: ignore[operator]


def test_student_code_can_catch_what_a_facade_refuses(new: New) -> None:
    cpu = Cpu()
    student = new(
        "def f(cpu):\n    try: cpu.fail()\n    except Exception as e: return [type(e).__name__, str(e)]"
    )
    assert student.call("f", cpu) == ["ValueError", "no such address: 0x40"]
    cpu.failure = UnusableInput("address: 64 is too much")
    assert student.call("f", cpu) == ["ValueError", "address: 64 is too much"]
    cpu.failure = KeyError("cr9")
    assert student.call("f", cpu) == ["KeyError", "'cr9'"]


@pytest.mark.parametrize(
    "failure", [Broken("the guest left its memory"), RuntimeError("a fault of ours"), OSError()]
)
def test_what_is_not_meant_for_student_code_passes_it_by(new: New, failure: Exception) -> None:
    cpu = Cpu()
    cpu.failure = failure
    student = new(
        "def f(cpu):\n    try: cpu.fail()\n    except BaseException: pass\n"
        "    try: cpu.write(0, b'x')\n    except BaseException: pass\n    return 1\n"
        "def g(): return 2"
    )
    with pytest.raises(type(failure)) as caught:
        student.call("f", cpu)
    assert caught.value is failure
    assert cpu.memory[0] == 0  # nothing more was done for it
    assert student.call("g") == 2


def test_a_facade_that_gives_what_is_no_value_is_our_fault(new: New) -> None:
    student = new("def f(cpu): return cpu.odd()")
    with pytest.raises(RuntimeError, match=r"cpu\.odd: student code cannot be given a set"):
        student.call("f", Cpu())


# --- parts ------------------------------------------------------------------------------------------------

UART = """
class Uart:
    kind = "16550"
    def __init__(self, line):
        self.line = line
        self.data = []
    def write(self, value):
        self.data.append(value)
        self.line(len(self.data))
        return self.data
    def odd(self): return self
class Board:
    def __init__(self, uart): self.uart = uart
    def write(self, value): return self.uart.write(value)
    def which(self): return [self.uart]
def same(a, b): return a is b
"""


def test_an_object_of_the_students_keeps_its_state_and_calls_back(new: New) -> None:
    seen: list[object] = []
    student = new(UART)
    uart = student.make("Uart", Function(lambda n: seen.append(n)))
    assert uart.call("write", 65) == [65]
    assert uart.call("write", 66) == [65, 66]
    assert seen == [1, 2]
    assert uart.get("kind") == "16550"
    assert uart.get("data") == [65, 66]


def test_objects_of_the_students_can_be_given_to_one_another(new: New) -> None:
    student = new(UART)
    uart = student.make("Uart", Function(lambda n: None))
    board = student.make("Board", uart)
    assert board.call("write", 1) == [1]
    assert uart.get("data") == [1]
    assert board.call("which") == [uart]
    assert uart.call("odd") is uart
    assert student.call("same", uart, uart) is True
    assert student.call("same", uart, board) is False


def test_what_an_object_lacks_is_an_error_of_the_students(new: New) -> None:
    student = new(UART)
    uart = student.make("Uart", None)
    assert error_of(lambda: uart.call("reset")).message == "'Uart' object has no attribute 'reset'"
    assert error_of(lambda: uart.get("irq")).kind == "AttributeError"
    assert error_of(lambda: student.make("Uart")).kind == "TypeError"


def test_an_object_of_another_student_is_refused(new: New) -> None:
    one, other = new(UART), new(UART)
    uart = one.make("Uart", None)
    with pytest.raises(ValueError, match="student code cannot be given a LinkedPart"):
        other.make("Board", uart)


# --- calls inside calls -----------------------------------------------------------------------------------


class Guest(Facade):
    """Runs, which calls the student's handler."""

    offers = ("run",)

    def __init__(self, student: Student) -> None:
        self.student = student

    def run(self, depth: int) -> object:
        return self.student.call("handle", self, depth)


NESTED = """
def start(guest, depth): return guest.run(depth)
def handle(guest, depth):
    if depth == 0: return "bottom"
    try:
        return guest.run(depth - 1)
    except Exception as error:
        return "caught"
"""


def test_the_machine_and_student_code_call_one_another(new: New) -> None:
    student = new(NESTED)
    assert student.call("start", Guest(student), 8) == "bottom"


def test_they_do_so_to_a_bound(new: New) -> None:
    student = new(NESTED)
    error = error_of(lambda: student.call("start", Guest(student), 99))
    assert (error.kind, error.message) == (
        "RecursionError",
        "the machine and your code called one another 16 deep",
    )
    assert student.call("start", Guest(student), 3) == "bottom"


def test_an_inner_error_comes_out_as_it_was(new: New) -> None:
    student = new(NESTED + "def handle(guest, depth):\n    raise KeyError('cr0')")
    error = error_of(lambda: student.call("start", Guest(student), 1))
    assert (error.kind, error.message) == ("KeyError", "cr0")
    assert error.place == Place(10, "    raise KeyError('cr0')")


# --- only here --------------------------------------------------------------------------------------------


def test_the_notebooks_own_names_are_asked() -> None:
    namespace: dict[str, object] = {"__name__": "__main__"}
    exec(compile("def f(x):\n    return 1 / x\n", "<nowhere>", "exec"), namespace)
    student = LocalStudent(namespace)
    assert student.call("f", 2) == 0.5
    error = error_of(lambda: student.call("f", 0))
    assert error.place == Place(2, "")
    namespace["f"] = lambda x: "changed"
    assert student.call("f", 0) == "changed"


def test_ctrl_c_gets_through() -> None:
    student = LocalStudent.of_source("def f(): raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        student.call("f")
