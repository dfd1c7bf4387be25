"""The jail's life: starting, output, time, ending; and what each of its walls is made of."""

from __future__ import annotations

import math
import os
import platform
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vlab.grading.facade import Facade
from vlab.grading.jail import audit, endings, landlock, layers, limits, preload, seccomp
from vlab.grading.jail.launch import NoJail, Zygote
from vlab.grading.jail.student import JailedStudent
from vlab.grading.jail.zygote import Server
from vlab.grading.student import Stopped, StudentError

posix = pytest.mark.skipif(os.name != "posix", reason="forks")
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

SOURCE = "import os\ndef pid(): return os.getpid()\ndef leave(): os._exit(0)\n"


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as zygote:
        yield zygote


# --- life -------------------------------------------------------------------------------------------------


def test_each_student_has_a_process_and_a_namespace_of_its_own(zygote: Zygote) -> None:
    with (
        JailedStudent(zygote, "import math\nmath.pi = 3\n" + SOURCE, 5) as one,
        JailedStudent(zygote, "import math\ndef pi(): return math.pi\n" + SOURCE, 5) as other,
    ):
        assert one.call("pid") != other.call("pid")
        assert other.call("pi") == math.pi


@posix
def test_a_process_is_gone_when_its_student_is_let_go(zygote: Zygote) -> None:
    student = JailedStudent(zygote, SOURCE, 5)
    pid = student.call("pid")
    assert isinstance(pid, int)
    os.kill(pid, 0)
    student.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@posix
def test_a_process_is_gone_when_its_cell_does_not_run(zygote: Zygote) -> None:
    with pytest.raises(StudentError) as caught:
        JailedStudent(zygote, "import os\nraise ValueError(os.getpid())", 5)
    with pytest.raises(ProcessLookupError):
        os.kill(int(caught.value.message), 0)


@posix
def test_jails_end_with_their_zygote() -> None:
    zygote = Zygote()
    student = JailedStudent(zygote, SOURCE, 5)
    zygote.close()
    with pytest.raises(Stopped):
        student.call("pid")
    student.close()


@posix
def test_a_zygote_that_was_killed_is_started_again() -> None:
    with Zygote() as zygote:
        with JailedStudent(zygote, SOURCE + "def f(): return os.getppid()", 5) as student:
            pid, parent = student.call("pid"), student.call("f")
            assert isinstance(pid, int)
            assert isinstance(parent, int)
            os.kill(parent, signal.SIGKILL)
            if sys.platform == "linux":  # elsewhere it sees that nobody asks any more
                until = time.monotonic() + 10
                while _is_alive(pid):
                    assert time.monotonic() < until
                    time.sleep(0.001)
            with pytest.raises(Stopped):
                student.call("f")
        with JailedStudent(zygote, SOURCE, 5) as student:
            assert student.call("pid")


@posix
def test_a_zygote_ends_with_the_process_that_grades() -> None:
    code = (
        "from vlab.grading.jail.launch import Zygote\n"
        "from vlab.grading.jail.student import JailedStudent\n"
        "cell = 'import os\\ndef f(): return [os.getpid(), os.getppid()]'\n"
        "import os\ns = JailedStudent(Zygote(), cell, 5)\n"
        "print(*s.call('f'), flush=True)\nos._exit(0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, timeout=60, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    for pid in map(int, done.stdout.split()):
        until = time.monotonic() + 10
        while _is_alive(pid):
            assert time.monotonic() < until, f"process {pid} is still there"
            time.sleep(0.01)


def _is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        return stat.read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return sys.platform != "linux"


@posix
def test_a_zygote_ends_quietly_when_an_answer_of_its_was_never_read() -> None:
    ours, its = socket.socketpair()
    with its:
        its.send(b"an answer")
        ours.close()
        Server(its).serve()


def test_threads_share_a_zygote(zygote: Zygote) -> None:
    answers: list[object] = []

    def work() -> None:
        for n in range(5):
            with JailedStudent(zygote, f"def f(): return {n}", 20) as student:
                answers.append(student.call("f"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(answers) == sorted([*range(5)] * 4)  # type: ignore[type-var]


def test_a_fresh_python_serves_where_nothing_forks() -> None:
    with Zygote(fork=False) as zygote:
        with JailedStudent(zygote, SOURCE + "from vlab.isa.control import CR0\n", 10) as student:
            assert student.call("pid") != os.getpid()
            with pytest.raises(Stopped, match="ended its process"):
                student.call("leave")
        with (
            JailedStudent(zygote, "def f(): open('/etc/passwd')", 10) as student,
            pytest.raises(StudentError, match="cannot be read while you are graded"),
        ):
            student.call("f")


def test_a_python_that_does_not_start_is_no_fault_of_the_students(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with Zygote() as zygote, pytest.raises(NoJail, match="the process that starts jails does not start"):
        JailedStudent(zygote, SOURCE, 5)


# --- output and time --------------------------------------------------------------------------------------


def test_what_is_printed_is_kept(zygote: Zygote) -> None:
    source = (
        "import sys\nprint('hello', 1)\ndef f(x):\n    print('in f', x, end='')\n    sys.stderr.write('!')\n"
        "    x and x.go()\n    return 1"
    )

    class Seen(Facade):
        offers = ("go",)

        def go(self) -> None:
            self.output = student.output

    with JailedStudent(zygote, source, 5) as student:
        assert student.output == "hello 1\n"
        student.call("f", None)
        assert student.output == "hello 1\nin f None!"
        seen = Seen()
        student.call("f", seen)
        assert seen.output.endswith("in f <seen: go>!")  # it is there when the machine is asked


def test_what_was_printed_before_the_time_ran_out_is_kept(zygote: Zygote) -> None:
    with JailedStudent(zygote, "def f():\n    print('so far')\n    while True: pass", 0.6) as student:
        with pytest.raises(Stopped, match=r"^your code took more than the 0\.6 s that it may take$"):
            student.call("f")
        assert student.output == "so far\n"


def test_all_calls_share_the_time(zygote: Zygote) -> None:
    with (
        JailedStudent(zygote, "import time\ndef f(): time.sleep(0.1)", 0.5) as student,
        pytest.raises(Stopped, match=r"took more than the 0\.5 s"),
    ):
        for _ in range(20):
            student.call("f")


def test_a_cell_has_python_as_it_is_used_to(zygote: Zygote) -> None:
    source = """
import asyncio, collections, decimal, enum, fractions, functools, hashlib, heapq, itertools, json, logging
import random, re, statistics, string, struct, textwrap, typing, unittest, uuid, zlib, bz2, csv, tomllib
import vlab, vlab.isa.paging_modes, vlab.isa.vmcb
def f():
    logging.getLogger("x").warning("seen")
    digest = hashlib.sha256(b"").hexdigest()[:4]
    mode = vlab.isa.paging_modes.PagingMode.LONG.name
    return [struct.pack("<I", 7), zlib.crc32(b"x"), digest, random.Random(1).random(), mode, __name__]
"""
    with JailedStudent(zygote, source, 10) as student:
        chance = random.Random(1).random()
        assert student.call("f") == [b"\7\0\0\0", 2363233923, "e3b0", chance, "LONG", "__main__"]
        assert "seen" in student.output


def test_chance_differs_from_student_to_student(zygote: Zygote) -> None:
    numbers = set()
    for _ in range(3):
        with JailedStudent(zygote, "import random\ndef f(): return random.getrandbits(64)", 5) as student:
            numbers.add(student.call("f"))
    assert len(numbers) == 3


def test_ctrl_c_in_our_process_lets_the_student_go(zygote: Zygote) -> None:
    class Interrupts(Facade):
        offers = ("go",)

        def go(self) -> None:
            raise KeyboardInterrupt

    with JailedStudent(zygote, "def f(x): x.go()", 5) as student:
        with pytest.raises(KeyboardInterrupt):
            student.call("f", Interrupts())
        with pytest.raises(Stopped, match="was let go"):
            student.call("f", None)


# --- walls ------------------------------------------------------------------------------------------------


def test_confinement_says_what_there_is_and_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    said = layers.confinement()
    assert [each.partition(":")[0] for each in said] == [
        "process",
        "resources",
        "files",
        "system calls",
        "Python",
    ]
    monkeypatch.setattr(landlock, "LINUX", False)
    monkeypatch.setattr(seccomp, "LINUX", False)
    monkeypatch.setattr(limits, "AVAILABLE", False)
    said = layers.confinement()
    assert "files: no Landlock here; only the audit hook keeps them from being read" in said
    assert "system calls: no filter here; only the audit hook keeps processes and the network away" in said
    assert "resources: no limits here but the time on the wall" in said


@linux
def test_the_kernel_agrees_with_what_is_said(zygote: Zygote) -> None:
    with JailedStudent(zygote, SOURCE, 5) as student:
        pid = student.call("pid")
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert status["NoNewPrivs"] == "1"
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
        assert status["Threads"] == "1"
        if seccomp.available():
            assert (status["Seccomp"], status["Seccomp_filters"]) == ("2", "1")
        bounds = Path(f"/proc/{pid}/limits").read_text(encoding="ascii")
        for name, value in (("file size", 0), ("core file size", 0), ("open files", limits.OPEN_FILES)):
            assert f"Max {name}".ljust(26) + f"{value:<21}{value:<21}" in bounds
        assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
        maps = Path(f"/proc/{pid}/maps").read_text(encoding="ascii", errors="replace")
        assert "unicorn" not in maps
        assert "numpy" not in maps


@linux
def test_this_linux_has_the_walls_that_are_tested() -> None:
    """Says in a run's summary what was not tried. Linux 5.13 on x86-64 or AArch64 has both."""
    missing = [] if landlock.version() else ["Landlock"]
    missing += [] if seccomp.available() else ["seccomp"]
    if missing:
        pytest.skip(f"this kernel has no {' and no '.join(missing)}")


@pytest.mark.parametrize("machine", sorted(seccomp.MACHINES))
def test_the_filter_is_well_formed(machine: str) -> None:
    """Run it, as the kernel would, on every number of a system call that there could be."""
    program = seccomp.program(machine, 1234)
    architecture, column = seccomp.MACHINES[machine]
    assert _filtered(program, 0, architecture ^ 1) == seccomp.KILL_PROCESS
    free = {numbers[column] for numbers in seccomp.FREE.values()} - {None}
    conditional = {
        seccomp.TGKILL,
        seccomp.PRLIMIT,
        seccomp.IOCTL,
        seccomp.FCNTL,
        seccomp.OPEN,
        seccomp.OPENAT,
    }
    special = {numbers[column] for numbers in conditional} | {seccomp.CLONE3[column]}
    for number in range(600):
        if number not in special:
            wanted = seccomp.ALLOW if number in free else seccomp.FAIL | 1
            assert _filtered(program, number, architecture) == wanted, number
        assert _filtered(program, number | 0x4000_0000, architecture) == seccomp.FAIL | 1  # x32
    for numbers, arguments, wanted in (
        (seccomp.TGKILL, (1234,), seccomp.ALLOW),
        (seccomp.TGKILL, (1,), seccomp.FAIL | 1),
        (seccomp.PRLIMIT, (0, 0, 0), seccomp.ALLOW),
        (seccomp.PRLIMIT, (0, 0, 1), seccomp.FAIL | 1),
        (seccomp.PRLIMIT, (0, 0, 1 << 32), seccomp.FAIL | 1),
        (seccomp.IOCTL, (3, 0x5401), seccomp.ALLOW),
        (seccomp.IOCTL, (3, 0x5412), seccomp.FAIL | 1),  # TIOCSTI types into a terminal
        (seccomp.FCNTL, (3, 3), seccomp.ALLOW),
        (seccomp.FCNTL, (3, 8), seccomp.FAIL | 1),  # F_SETOWN
        (seccomp.OPENAT, (0, 0, 0o2000000), seccomp.ALLOW),
        (seccomp.OPENAT, (0, 0, 0o1), seccomp.FAIL | 1),
        (seccomp.OPENAT, (0, 0, 0o100), seccomp.FAIL | 1),
        (seccomp.CLONE3, (), seccomp.FAIL | 38),
    ):
        assert _filtered(program, numbers[column] or 0, architecture, *arguments) == wanted, arguments


def _filtered(program: list[seccomp.Instruction], number: int, architecture: int, *arguments: int) -> int:
    words = {0: number, 4: architecture}
    for position in range(6):
        value = arguments[position] if position < len(arguments) else 0
        words[16 + 8 * position], words[20 + 8 * position] = value & 0xFFFF_FFFF, value >> 32
    at = accumulator = 0
    while True:
        code, true, false, constant = program[at]
        at += 1
        if code == seccomp.RETURN:
            return constant
        if code == seccomp.LOAD:
            accumulator = words[constant]
        elif code == seccomp.EQUAL:
            at += true if accumulator == constant else false
        elif code == seccomp.ANY_BIT:
            at += true if accumulator & constant else false
        else:
            raise AssertionError(code)


def test_the_numbers_are_the_systems_own() -> None:
    header = {"x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"}.get(platform.machine(), "")
    if not Path(header).exists():
        pytest.skip("the kernel's headers are not here")
    lines = (line.split() for line in Path(header).read_text(encoding="ascii").splitlines())
    known = {
        line[1].removeprefix("__NR_"): int(line[2]) for line in lines if len(line) == 3 and line[2].isdigit()
    }
    assert {name: known[name] for name in seccomp.FREE} == {
        name: numbers[0] for name, numbers in seccomp.FREE.items()
    }
    others = {"tgkill": seccomp.TGKILL, "prlimit64": seccomp.PRLIMIT, "ioctl": seccomp.IOCTL,
              "fcntl": seccomp.FCNTL, "open": seccomp.OPEN, "openat": seccomp.OPENAT,
              "clone3": seccomp.CLONE3}  # fmt: skip
    for name, numbers in others.items():
        assert known[name] == numbers[0]


def test_rights_of_landlock_by_its_version() -> None:
    assert landlock._all(landlock.FILE_RIGHTS, 1) == 0x1FFF
    assert landlock._all(landlock.FILE_RIGHTS, 4) == 0x7FFF
    assert landlock._all(landlock.FILE_RIGHTS, 7) == 0xFFFF
    assert landlock._all(landlock.NETWORK_RIGHTS, 3) == 0
    assert landlock._all(landlock.NETWORK_RIGHTS, 4) == 3
    assert landlock._all(landlock.SCOPES, 6) == 3


def test_what_can_be_read_holds_no_third_partys_packages() -> None:
    files, listed = preload.readable()
    assert all(each.exists() for each in files)
    assert not [each for each in files if "packages" in each.name]
    own = {each.stem for each in files + listed if "vlab" in each.parts}
    assert own <= {name.rpartition(".")[2] for name in preload.isa_modules()} | {"__init__"}
    assert not own & {"paging", "sensitive", "sensitive_forms"}


@pytest.mark.parametrize(
    ("event", "arguments", "said"),
    [
        ("open", ("/lib/python/json.py", "r", 0), None),
        ("open", (b"/lib/python/json.py", "r", 0), None),
        ("open", ("/lib/python/json.py", "w", os.O_WRONLY), "files cannot be written"),
        ("open", ("/lib/pythonic.py", "r", 0), "cannot be read"),
        ("open", ("/lib/python/../x", "r", 0), "cannot be read"),
        ("open", ("/lib/python/site-packages/x.py", "r", 0), "cannot be read"),
        ("open", ("json.py", "r", 0), "cannot be read"),
        ("open", (3, "r", 0), "descriptors cannot be opened"),
        ("os.listdir", ("/lib/python",), None),
        ("os.listdir", ("/lib",), "cannot be read"),
        ("import", ("json", None, None, None, None), None),
        ("import", ("vlab.isa.control", None, None, None, None), None),
        ("import", ("vlab.isa.paging", None, None, None, None), "vlab.isa.paging is not there while"),
        ("import", ("vlab.vmm.monitor", None, None, None, None), "write that part yourself"),
        ("import", ("_ctypes", None, None, None, None), "C libraries cannot be called"),
        ("socket.connect", (None, ("127.0.0.1", 80)), "there is no network"),
        ("subprocess.Popen", (), "no other process can be started"),
        ("os.fork", (), "no other process can be started"),
        ("os.kill", (1, 9), "no process can be signalled"),
        ("ctypes.dlopen", (None,), "C libraries cannot be called"),
        ("builtins.input", ("",), r"nobody answers input\(\)"),
        ("exec", (None,), None),
        ("compile", (None, None), None),
    ],
)
@posix
def test_the_hook_explains_each_refusal(event: str, arguments: tuple[object, ...], said: str | None) -> None:
    hook = audit.guard(["/lib/python"])
    if said is None:
        hook(event, arguments)
        return
    with pytest.raises(ImportError if event == "import" else PermissionError, match=said):
        hook(event, arguments)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (0, "your code ended its process before it answered"),
        (3, "your code ended its process before it answered"),
        (endings.TOO_OFTEN, "your code tried more than 100 times to do what it must not, and was ended"),
        (endings.NO_MEMORY, "your code ran out of the 64 MiB of memory that it may use"),
        (-11, "your code crashed its process (SIGSEGV): endless recursion and damaged memory do that"),
        (-99, "your code crashed its process (signal 99): endless recursion and damaged memory do that"),
    ],
)
def test_an_end_is_told_in_a_sentence(status: int, said: str) -> None:
    assert endings.sentence(status, 64 << 20) == said
