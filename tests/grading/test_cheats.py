"""What a student might try instead of the exercise: none of it helps, and it ends in plain words."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.grading import forgeries
from tests.grading.classroom import WRONG, make_labs, notebook
from vlab.grading.facade import Facade
from vlab.grading.jail import landlock, seccomp
from vlab.grading.jail.launch import Zygote
from vlab.grading.jail.student import MAX_OUTPUT, JailedStudent
from vlab.grading.student import Stopped, StudentError
from vlab.trace.file import loads

ROOT = Path(__file__).parents[2]

filtered = pytest.mark.skipif(
    not seccomp.available(), reason="this kernel or processor has no seccomp filter"
)
fenced = pytest.mark.skipif(not landlock.version(), reason="this kernel has no Landlock")
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


class Account(Facade):
    offers = ("pay",)
    read_only = ("balance",)

    def __init__(self) -> None:
        self.balance = 0
        self.secret = "the solution"

    def pay(self, sum_: int) -> int:
        self.balance += sum_
        return self.balance

    def grade(self) -> str:
        return "full marks"


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as zygote:
        yield zygote


def attempt(zygote: Zygote, body: str, *arguments: object, seconds: float = 5.0, **options: int) -> object:
    """Run the body of ``cheat(*given)`` in a jail, and give what it returns."""
    indented = "\n".join(f"    {line}" for line in body.strip("\n").splitlines())
    source = f"import os, sys, time\ndef cheat(*given):\n{indented}\n"
    with JailedStudent(zygote, source, seconds, **options) as student:
        return student.call("cheat", *arguments)  # type: ignore[arg-type]


def refusal(zygote: Zygote, body: str, **options: float) -> str:
    """Give what is said about an attempt that is refused."""
    with pytest.raises(StudentError) as caught:
        attempt(zygote, body, **options)  # type: ignore[arg-type]
    return caught.value.message if not isinstance(caught.value, Stopped) else caught.value.why


# --- the checker ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["vlab.grading", "vlab.grading.marking", "vlab.grading.jail.audit"])
def test_the_checker_cannot_be_imported(zygote: Zygote, module: str) -> None:
    assert "is not there while you are graded" in refusal(zygote, f"import {module}")


@pytest.mark.parametrize("module", ["vlab.vmm", "vlab.session", "vlab.machine.cpu"])
def test_the_monitor_to_be_written_cannot_be_imported(zygote: Zygote, module: str) -> None:
    top = ".".join(module.split(".")[:2])
    said = f"{top} is not there while you are graded: write that part yourself"
    assert refusal(zygote, f"import {module}") == f"{module}{said.removeprefix(top)}"
    assert refusal(zygote, f"import importlib\nimportlib.import_module({module!r})") == said


def test_the_public_names_of_vlab_are_not_there(zygote: Zygote) -> None:
    assert refusal(zygote, "import vlab; vlab.VM") == (
        "vlab.session is not there while you are graded: write that part yourself"
    )


def test_patching_everything_within_reach_changes_no_answer_of_ours(zygote: Zygote) -> None:
    body = """
import builtins, json, struct
for module in (json, struct, builtins, sys, os):
    for name in ("dumps", "loads", "JSONEncoder", "pack", "isinstance", "len", "type", "write", "read"):
        if hasattr(module, name):
            try:
                setattr(module, name, lambda *a, **k: "full marks")
            except Exception:
                pass
return given[0].balance
"""
    account = Account()
    try:
        answer = attempt(zygote, body, account)
    except StudentError:
        answer = None  # it broke its own side
    assert answer in (None, 0, "full marks")
    assert account.balance == 0
    assert attempt(zygote, "return given[0].pay(3)", account) == 3  # the next student is none the wiser


def test_what_a_facade_does_not_offer_cannot_be_reached(zygote: Zygote) -> None:
    account = Account()
    assert "account has no 'grade'; it has: pay, balance" in _message(zygote, "given[0].grade()", account)
    assert "account.balance cannot be assigned" in _message(zygote, "given[0].balance = 9", account)
    body = "return given[0]._vlab_holdings.ask(given[0], 'get', 'secret', (), {})"
    assert "asks for what the object does not offer" in _message(zygote, body, account)
    body = "return given[0]._vlab_holdings._send(['ask', 7, 'call', 'pay', [1], {}])"
    assert "asks for an object that it was never given" in _message(zygote, body, account)
    for request in ("['ask']", "['ask', 0, 'call', 'pay', 1, {}]", "['ask', True, 'call', 'pay', [1], {}]"):
        said = _message(zygote, f"return given[0]._vlab_holdings._send({request})", account)
        assert "your code's process asks for" in said
    assert account.balance == 0


def _message(zygote: Zygote, body: str, *arguments: object) -> str:
    with pytest.raises(StudentError) as caught:
        attempt(zygote, body, *arguments)
    return str(caught.value)


# --- files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "/proc/self/environ", "/proc/self/mem", str(ROOT / "labs" / "00_a" / "lesson.md"),
     str(ROOT / "vlab" / "session.py"), "relative.txt"],
)  # fmt: skip
def test_no_file_but_the_librarys_can_be_read(zygote: Zygote, path: str) -> None:
    said = f"{path!r} cannot be read while you are graded: only Python's own library can"
    assert said in refusal(zygote, f"open({path!r}).read()")
    assert said in refusal(zygote, f"os.open({path!r}, os.O_RDONLY)")
    assert said in refusal(zygote, f"import pathlib; pathlib.Path({path!r}).read_text()")


def test_the_library_can_be_read_but_no_way_out_of_it(zygote: Zygote) -> None:
    assert attempt(zygote, "import inspect, json; return len(inspect.getsource(json)) > 100") is True
    assert attempt(
        zygote, "import inspect, vlab.isa.control as c; return 'class CR0' in inspect.getsource(c)"
    )
    assert "cannot be read" in refusal(
        zygote, "return open(os.path.dirname(os.__file__) + '/../../../../../../etc/passwd').read()"
    )
    assert "cannot be read" in refusal(zygote, "return os.listdir('/')")


def test_the_source_of_the_monitor_cannot_be_had_by_its_place(zygote: Zygote) -> None:
    body = """
import importlib.util, vlab
path = os.path.join(vlab.__path__[0], "session.py")
spec = importlib.util.spec_from_file_location("session", path)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
"""
    assert "cannot be read while you are graded" in refusal(zygote, body)


@pytest.mark.parametrize("call", ["open(given, 'w')", "os.open(given, os.O_CREAT | os.O_WRONLY)",
                                  "os.mkdir(given)", "os.symlink('/etc', given)"])  # fmt: skip
def test_nothing_can_be_written(zygote: Zygote, tmp_path: Path, call: str) -> None:
    target = tmp_path / "mine"
    said = refusal(zygote, f"given = {str(target)!r}\n{call}")
    assert said == "files cannot be written or changed while you are graded"
    assert not target.exists()


def test_the_environment_is_empty(zygote: Zygote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLAB_TOKEN", "secret")
    assert attempt(zygote, "return dict(os.environ)") == {}


# --- below the hook: as code that got around it would find things ------------------------------------------


#: Calls of the module `os` that Python has no audit event for, or a hook that is blind, reach the kernel.
def blind(monkeypatch: pytest.MonkeyPatch) -> Zygote:
    """Give jails without the audit hook. The zygote is a process of its own, so it is told by its command."""
    from vlab.grading.jail import launch

    whole = launch._python

    def without_hook(module: str, *arguments: object) -> list[str]:
        command = whole(module, *arguments)
        command[-1] = command[-1].replace(
            "from vlab.grading.jail.zygote",
            "import vlab.grading.jail.audit as a, vlab.grading.jail.preload as p; "
            "a.install = lambda roots: None; p.forget = lambda: None; from vlab.grading.jail.zygote",
        )
        return command

    monkeypatch.setattr(launch, "_python", without_hook)
    return Zygote()


@pytest.fixture
def hookless(monkeypatch: pytest.MonkeyPatch) -> Iterator[Zygote]:
    with blind(monkeypatch) as zygote:
        yield zygote


@fenced
@linux
def test_without_the_hook_the_kernel_keeps_files_from_being_read(hookless: Zygote) -> None:
    for path in (
        "/etc/passwd",
        "/proc/self/environ",
        "/proc/1/environ",
        ROOT / "vlab" / "session.py",
        ROOT / "labs",
    ):
        body = f"os.listdir({str(path)!r})" if path == ROOT / "labs" else f"open({str(path)!r}).read()"
        assert "[Errno 13] Permission denied" in refusal(hookless, body)
    assert "[Errno 13] Permission denied" in refusal(hookless, "import vlab.vmm")
    assert "No module named 'tests.programs'" in refusal(
        hookless, f"sys.path.append({str(ROOT)!r}); import tests.programs"
    )


@filtered
def test_without_the_hook_the_kernel_keeps_everything_else_away(hookless: Zygote, tmp_path: Path) -> None:
    target = str(tmp_path / "mine")
    for body in (
        f"open({target!r}, 'w')",
        f"os.mkdir({target!r})",
        "os.fork()",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "import subprocess; subprocess.run(['/bin/true'])",
        "os.execv('/bin/true', ['true'])",
        "import socket; socket.socket()",
        "import socket; socket.socketpair()",
        f"os.kill({os.getpid()}, 0)",
        "os.kill(os.getppid(), 9)",
        "os.kill(-1, 9)",
        "os.killpg(0, 9)",
        "import signal; signal.setitimer(signal.ITIMER_REAL, 1)",
        "import fcntl; fcntl.fcntl(3, fcntl.F_SETOWN, os.getppid())",
        "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
        "os.chdir('/tmp')",
        "os.setuid(0)",
        "os.pipe()",
        "os.memfd_create('x')",
    ):
        said = refusal(hookless, body)
        assert "[Errno 1] Operation not permitted" in said, body
    assert "can't start new thread" in refusal(
        hookless, "import threading; threading.Thread(target=print).start()"
    )
    body = "import resource as r; r.setrlimit(r.RLIMIT_CORE, r.getrlimit(r.RLIMIT_CORE))"
    assert "not allowed to raise maximum limit" in refusal(hookless, body)  # Python's words for EPERM
    assert not Path(target).exists()


@filtered
def test_without_the_hook_c_code_can_neither_fork_nor_trace(hookless: Zygote) -> None:
    body = """
import ctypes
c = ctypes.CDLL(None, use_errno=True)
result = []
for name, arguments in given[0].items():
    c.syscall.restype = ctypes.c_long
    code = c.syscall(*arguments)
    result.append([name, code, ctypes.get_errno()])
return result
"""
    x86 = {"fork": 57, "vfork": 58, "clone": 56, "ptrace": 101, "process_vm_readv": 310, "mount": 165,
           "unshare": 272, "setns": 308, "bpf": 321, "perf_event_open": 298, "io_uring_setup": 425,
           "keyctl": 250, "execve": 59, "sendmsg": 46, "pidfd_getfd": 438, "userfaultfd": 323}  # fmt: skip
    arm = {"clone": 220, "ptrace": 117, "process_vm_readv": 270, "mount": 40, "unshare": 97, "bpf": 280}
    numbers = x86 if seccomp.platform.machine() == "x86_64" else arm
    asked = {name: [number, 0, 0, 0, 0, 0] for name, number in numbers.items()}
    for name, code, error in attempt(hookless, body, asked):  # type: ignore[attr-defined]
        assert (code, error) == (-1, 1), name


@filtered
def test_a_system_call_of_the_other_architecture_kills(hookless: Zygote) -> None:
    if seccomp.platform.machine() != "x86_64":
        pytest.skip("int 0x80 is of x86")
    body = """
import ctypes, mmap
code = bytes.fromhex("b814000000cd80c3")  # mov eax, 20 (getpid); int 0x80; ret
memory = mmap.mmap(-1, 4096, prot=7)
memory.write(code)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
return ctypes.CFUNCTYPE(ctypes.c_int)(address)()
"""
    assert "your code crashed its process (SIGSYS)" in refusal(hookless, body)


# --- answers ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="the way out is a descriptor")
@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("b'\\xff' * 100", "sent a message of 4294967295 bytes, more than 4 MiB"),
        ("b'\\0\\0\\0\\x02{}'", "sent something that is no message"),
        ("b'\\0\\0\\0\\x04nope'", "sent something that is no message"),
        ("b'\\0\\0\\0\\x06[\"hi\"]'", "spoke out of turn"),
        ("b'\\0\\0\\x80\\0' + b'[' * 0x8000", "sent something that is no message"),
        ("forge(['answer', 99, 'value', 1])", "spoke out of turn"),
        ("forge(['answer', 2])", "sent an answer that is none"),
        ("forge(['answer', 2, 'value', {'b': 'x'}])", "holds bytes that are not in base 64"),
        ("forge(['answer', 2, 'value', {'f': 0}])", "asks for an object that it was never given"),
        ("forge(['answer', 2, 'value', {'p': 4}])", "names an object that nobody made"),
        ("forge(['answer', 2, 'value', {'zz': 4}])", "holds something that is no value"),
        ("forge(['answer', 2, 'value', {'d': 4}])", "holds a dict that is none"),
        ("forge(['answer', 2, 'error', 4, 4, 4, 4])", "sent an answer that is none"),
        ("b'\\0\\x01\\0\\0' + b'[\"answer\",2,\"value\",' + b'1' * 65515 + b']'", "no message"),
    ],
)
def test_forged_and_malformed_messages_end_the_student(zygote: Zygote, data: str, said: str) -> None:
    body = f"""
import json, struct
def forge(message):
    text = json.dumps(message).encode()
    return struct.pack(">I", len(text)) + text
data = {data}
for fd in range(16):
    try:
        os.write(fd, data)
    except OSError:
        pass
time.sleep(60)
"""
    assert said in refusal(zygote, body)


@pytest.mark.skipif(os.name != "posix", reason="the way out is a descriptor")
def test_an_answer_written_by_hand_is_worth_no_more_than_one_returned(zygote: Zygote) -> None:
    account = Account()
    body = """
import json, struct
text = json.dumps(["answer", 2, "value", 10 ** 6]).encode()
os.write(3, struct.pack(">I", len(text)) + text)
time.sleep(60)
"""
    assert attempt(zygote, body, account) == 10**6
    assert account.balance == 0


@pytest.mark.parametrize("leave", ["os._exit(0)", "os._exit(1)", "sys.exit(0)", "exit()", "raise SystemExit"])
def test_leaving_early_is_no_answer(zygote: Zygote, leave: str) -> None:
    assert refusal(zygote, leave) == "your code ended its process before it answered"


def test_closing_the_way_out_is_no_answer(zygote: Zygote) -> None:
    said = refusal(zygote, "os.closerange(0, 16); time.sleep(60)")
    assert said == "your code ended its process before it answered"


def test_after_the_end_every_call_says_the_same(zygote: Zygote) -> None:
    with JailedStudent(zygote, "import os\ndef f(): os._exit(0)", 5) as student:
        for _ in range(3):
            with pytest.raises(Stopped, match="ended its process"):
                student.call("f")
        with pytest.raises(Stopped, match="ended its process"):
            student.defines("f")


# --- floods -----------------------------------------------------------------------------------------------


def test_printing_without_end_keeps_the_beginning_only(zygote: Zygote) -> None:
    source = "def f():\n    for n in range(100_000): print('line', n)\n    return 1"
    with JailedStudent(zygote, source, 20) as student:
        assert student.call("f") == 1
        assert student.output.startswith("line 0\nline 1\n")
        assert student.output.endswith("[no more of it is kept]\n")
        assert len(student.output) <= MAX_OUTPUT


@pytest.mark.skipif(os.name != "posix", reason="the way out is a descriptor")
def test_flooding_the_way_out_ends_with_the_time(zygote: Zygote) -> None:
    body = """
import json, struct
text = json.dumps(["said", "x" * 60000]).encode()
data = struct.pack(">I", len(text)) + text
while True:
    os.write(3, data)
"""
    assert "took more than the 0.4 s" in refusal(zygote, body, seconds=0.4)


@pytest.mark.skipif(os.name != "posix", reason="the way out is a descriptor")
def test_asking_without_reading_the_answers_ends_with_the_time(zygote: Zygote) -> None:
    body = """
import json, struct
text = json.dumps(["ask", 0, "get", "balance", [], {}]).encode()
data = struct.pack(">I", len(text)) + text
while True:
    os.write(3, data)
"""
    with pytest.raises(Stopped, match=r"took more than the 0\.4 s"):
        attempt(zygote, body, Account(), seconds=0.4)


def test_asking_the_machine_without_end_is_stopped(zygote: Zygote) -> None:
    with pytest.raises(Stopped, match="asked the machine too often"):
        attempt(zygote, "while True: given[0].pay(0)", Account(), requests=500)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("list(range(100_000))", "your code returned more than 65536 values at once"),
        ("'x' * (3 << 20)", "your code returned more than 2 MiB at once"),
        ("1 << 5000", "your code returned a number of 5001 bits"),
        ("deep(100)", "your code returned lists or dicts nested more than 32 deep"),
        ("loop()", "your code returned lists or dicts nested more than 32 deep"),
    ],
)
def test_giant_answers_are_refused(zygote: Zygote, answer: str, said: str) -> None:
    body = f"""
def deep(n): return [deep(n - 1)] if n else []
def loop():
    found = []
    found.append(found)
    return found
return {answer}
"""
    assert said in refusal(zygote, body)


# --- time and memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait", ["time.sleep(60)", "while True: pass", "10 ** 10 ** 9", "input()"])
def test_time_runs_out(zygote: Zygote, wait: str) -> None:
    began = time.monotonic()
    said = refusal(zygote, wait, seconds=0.3)
    assert "took more than the 0.3 s that it may take" in said or "input()" in said
    assert time.monotonic() - began < 30


def test_catching_everything_does_not_stop_the_clock(zygote: Zygote) -> None:
    body = """
import signal
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
while True:
    try:
        while True: pass
    except BaseException:
        pass
"""
    assert "took more than the 0.3 s" in refusal(zygote, body, seconds=0.3)


def test_time_of_the_machines_side_is_not_counted(zygote: Zygote) -> None:
    class Slow(Facade):
        offers = ("wait",)

        def wait(self) -> None:
            time.sleep(1.05)

    assert attempt(zygote, "given[0].wait(); return 1", Slow(), seconds=1) == 1


@linux
def test_eating_memory_is_an_error_of_the_students(zygote: Zygote) -> None:
    body = "found = []\nwhile True: found.append(bytearray(1 << 20))"
    with pytest.raises(StudentError) as caught:
        attempt(zygote, body, memory_bytes=64 << 20)
    assert caught.value.kind in ("MemoryError", "Stopped")
    with pytest.raises(StudentError) as caught:
        attempt(zygote, "return len(bytearray(1 << 40))")
    assert caught.value.kind == "MemoryError"


def test_recursion_without_end_is_an_error_of_the_students(zygote: Zygote) -> None:
    with pytest.raises(StudentError) as caught:
        attempt(zygote, "def f(): return f()\nf()")
    assert caught.value.kind == "RecursionError"
    body = "sys.setrecursionlimit(10 ** 9)\ndef f(n): return [f, sorted([n], key=f)]\nf(1)"
    with pytest.raises(StudentError) as caught:
        attempt(zygote, body)
    assert caught.value.kind in ("Stopped", "MemoryError", "RecursionError")


# --- processes and the network ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "start",
    ["os.fork()", "os.system('true')", "import subprocess; subprocess.run(['true'])",
     "os.execv('/bin/true', ['x'])",
     "import multiprocessing as m; m.get_context('fork').Process(target=print).start()",
     "os.posix_spawn('/bin/true', ['true'], {})"],
)  # fmt: skip
@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_no_process_can_be_started(zygote: Zygote, start: str) -> None:
    assert refusal(zygote, start) in (
        "no other process can be started while you are graded",
        "[Errno 1] Operation not permitted",  # the pipe that multiprocessing starts with
    )


def test_no_thread_can_be_started(zygote: Zygote) -> None:
    said = refusal(zygote, "import threading; threading.Thread(target=print).start()")
    assert "threads cannot be started" in said or said == "can't start new thread"  # before Python 3.12


def test_c_libraries_cannot_be_called(zygote: Zygote) -> None:
    said = "C libraries cannot be called while you are graded"
    assert refusal(zygote, "import ctypes") == said
    assert refusal(zygote, "import _ctypes") == said


def test_nobody_is_reached_over_the_network(zygote: Zygote) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        port = server.getsockname()[1]
        body = f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=1)"
        assert refusal(zygote, body) == "there is no network while you are graded"
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_neither_we_nor_the_zygote_nor_another_student_can_be_killed(zygote: Zygote) -> None:
    with JailedStudent(zygote, "import os\ndef f(): return os.getpid()", 5) as other:
        pid = other.call("f")
        for target in (os.getpid(), "os.getppid()", pid, -1):
            said = refusal(zygote, f"os.kill({target}, {int(signal.SIGKILL)})")
            assert said == "no process can be signalled while you are graded"
        assert other.call("f") == pid


@linux
def test_only_the_way_out_is_open(zygote: Zygote) -> None:
    body = """
found = []
for fd in range(1024):
    try:
        os.fstat(fd)
        found.append(fd)
    except OSError:
        pass
return found
"""
    ours = socket.socketpair()  # something to be found
    with ours[0], ours[1]:
        assert attempt(zygote, body) == [0, 1, 2, 3]


# --- refusals ---------------------------------------------------------------------------------------------


def test_catching_a_refusal_does_not_give_what_was_refused(zygote: Zygote) -> None:
    body = """
got = []
for _ in range(50):
    try:
        got.append(open("/etc/passwd").read())
    except OSError as error:
        last = str(error)
return [got, last]
"""
    got, last = attempt(zygote, body)  # type: ignore[misc]
    assert got == []
    assert "cannot be read while you are graded" in last


def test_trying_without_end_ends_the_student(zygote: Zygote) -> None:
    body = """
os._exit = print
while True:
    try:
        open("/etc/passwd")
    except OSError:
        pass
"""
    assert (
        refusal(zygote, body) == "your code tried more than 100 times to do what it must not, and was ended"
    )


def test_taking_python_apart_does_not_blind_the_hook(zygote: Zygote) -> None:
    body = """
import builtins
kept = dict(vars(builtins))
for name in ("isinstance", "type", "str", "len", "PermissionError", "any"):
    setattr(builtins, name, lambda *a: None)
os.O_WRONLY = os.O_CREAT = 0
sys.meta_path.clear()
sys.addaudithook(lambda *a: None)
try:
    open("/etc/passwd")
except OSError as error:
    said = f"{error}"
vars(builtins).update(kept)
return said
"""
    said = attempt(zygote, body)
    assert said == "'/etc/passwd' cannot be read while you are graded: only Python's own library can"


@pytest.mark.parametrize(
    "code",
    [
        "from vlab.isa.paging import walk",
        "import vlab.isa.sensitive_forms",
        "import importlib; importlib.import_module('vlab.isa.paging')",
        "import sys; sys.modules['vlab.isa.paging']",
        "import vlab.isa.control as c; open(c.__file__.replace('control', 'paging')).read()",
    ],
)
def test_parts_of_vlab_that_are_answers_are_not_there(zygote: Zygote, code: str) -> None:
    with pytest.raises(StudentError):
        JailedStudent(zygote, code, 5)


# --- forged marks, reports and traces ----------------------------------------------------------------------

HONEST = "honest"
"""Who hands in two wrong answers, and nothing else."""
FORGED = {
    "outputs": "in the outputs of cells",
    "metadata": "in metadata and widget state",
    "beside": "in files beside the notebook",
    "archive": "in the files of an archive",
    "everywhere": "in all of these at once",
}
"""Who hands in the same answers and full marks for them, by where these are."""


@dataclass(frozen=True)
class Class:
    """What `vlab grade` made of a class. out: the directory with all that it wrote."""

    out: Path

    def marks(self, student: str) -> dict[str, float]:
        """Give the points by invariant."""
        everybody = json.loads((self.out / "all.json").read_text(encoding="utf-8"))
        (found,) = [each for each in everybody if each["student"] == student]
        assert (found["trouble"], found["error"]) == ("", "")
        earned = {one["name"]: one["earned"] for each in found["exercises"] for one in each["invariants"]}
        assert found["earned"] == pytest.approx(sum(earned.values()))
        return earned

    def traces(self, student: str) -> dict[str, bytes]:
        """Give the traces that the student's page has to download, by name."""
        page = (self.out / "feedback" / f"{student}-02.html").read_text(encoding="utf-8")
        links = re.findall(r'<a href="([^"]*)" download="([^"]*)"', page)
        assert len(links) == page.count("<a ")
        head = "data:application/octet-stream;base64,"
        return {
            name: base64.b64decode(target.removeprefix(head))
            if target.startswith(head)
            else (self.out / "feedback" / target).read_bytes()
            for target, name in links
        }


def run_grade(directory: Path, handed_in: Path) -> Class:
    """Grade with the command, in a directory of its own with the small lesson."""
    if not (directory / "labs").exists():
        make_labs(directory)
    out = directory / f"out-of-{handed_in.name}"
    out.mkdir()
    secret = directory / "secret"
    secret.write_text("the secret of the course", encoding="utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "vlab.cli", "grade", handed_in, "--workers", "2", "--secret", secret),
            *("--out", out / "graded", "--json", out / "all.json", "--feedback", out / "feedback"),
        ],
        cwd=directory,
        env=os.environ | {"VLAB_LABS": str(directory / "labs"), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return Class(out)


@pytest.fixture(scope="module")
def forgers(tmp_path_factory: pytest.TempPathFactory) -> Class:
    """A class in which all have the same wrong answers, and all but one forge full marks for them."""
    directory = tmp_path_factory.mktemp("forgers")
    handed_in, plain = directory / "in", notebook(WRONG)
    forgeries.directory(handed_in, HONEST, plain, {})
    forgeries.directory(handed_in, "outputs", forgeries.in_outputs(), {})
    forgeries.directory(handed_in, "metadata", forgeries.in_metadata(), {})
    forgeries.directory(handed_in, "beside", plain, forgeries.files("beside"))
    forgeries.archive(handed_in, "archive", plain, forgeries.files("archive"))
    everything = json.loads(forgeries.in_metadata())
    for cell, other in zip(everything["cells"], json.loads(forgeries.in_outputs())["cells"], strict=False):
        if cell["cell_type"] == "code":
            cell["outputs"] = other["outputs"]
    forgeries.archive(handed_in, "everywhere", json.dumps(everything), forgeries.files("everywhere"))
    return run_grade(directory, handed_in)


@pytest.fixture(scope="module")
def actors(tmp_path_factory: pytest.TempPathFactory) -> Class:
    """A class whose code returns, raises and prints what looks like marks and traces."""
    directory = tmp_path_factory.mktemp("actors")
    for student, cells in forgeries.cells().items():
        forgeries.directory(directory / "in", student, notebook(cells), {})
    return run_grade(directory, directory / "in")


def test_the_forged_trace_is_one_that_vlab_would_open() -> None:
    assert loads(forgeries.trace()).metadata["guest"] == forgeries.NAME


@pytest.mark.parametrize("student", FORGED, ids=list(FORGED.values()))
def test_full_marks_forged_change_no_mark(forgers: Class, student: str) -> None:
    assert forgers.marks(HONEST) == {"hello": 0.0, "counted": 0.5, "small": 0.0, "big": 0.0}
    assert forgers.marks(student) == forgers.marks(HONEST)


@pytest.mark.parametrize("student", FORGED, ids=list(FORGED.values()))
def test_a_trace_forged_is_not_on_the_feedback_page_but_the_one_that_was_recorded(
    forgers: Class, student: str
) -> None:
    (name,) = forgers.traces(student)
    assert name == f"{student}-02-greet-hello.vlabtrace"
    assert loads(forgers.traces(student)[name]).metadata["guest"] == "hello"
    assert forgers.traces(student)[name] == forgers.traces(HONEST)[f"{HONEST}-02-greet-hello.vlabtrace"]


def test_nothing_that_grading_writes_holds_a_forged_trace(forgers: Class) -> None:
    written = [each for each in forgers.out.rglob("*") if each.is_file()]
    assert len(written) > 2 * len(FORGED)
    needles = (forgeries.trace(), forgeries.text().encode(), forgeries.NAME.encode())
    assert not [each for each in written if any(needle in each.read_bytes() for needle in needles)]
    pages = {each.name for each in (forgers.out / "feedback").iterdir()}
    assert pages == {f"{student}-02.html" for student in (HONEST, *FORGED)}


@pytest.mark.parametrize("student", forgeries.cells())
def test_code_that_acts_as_if_it_were_the_marker_gets_nothing_for_it(actors: Class, student: str) -> None:
    marks = actors.marks(student)
    answered = 0.5 if marks.pop("counted") else 0.0  # for any answer at all
    assert marks == {"hello": 0.0, "small": 0.0, "big": 0.0}
    assert answered == 0.0 or student not in forgeries.RAISING


@pytest.mark.parametrize("student", forgeries.cells())
def test_a_trace_that_code_returns_raises_or_prints_is_not_offered_as_evidence(
    actors: Class, student: str
) -> None:
    traces = actors.traces(student)
    assert set(traces) <= {f"{student}-02-greet-{invariant}.vlabtrace" for invariant in ("hello", "counted")}
    for content in traces.values():
        assert loads(content).metadata["guest"] == "hello"
    assert not list((actors.out / "feedback").glob("*.vlabtrace"))


def test_a_journal_with_the_true_stamp_and_full_marks_is_not_believed_when_it_is_handed_in(
    tmp_path: Path,
) -> None:
    forgeries.directory(tmp_path / "first", "eve", notebook(WRONG), {})
    first = run_grade(tmp_path, tmp_path / "first")
    true = json.loads((first.out / "graded" / "results" / "02" / "eve.json").read_text(encoding="utf-8"))
    for exercise, forged in zip(true["exercises"], forgeries.marks(), strict=True):
        exercise["invariants"] = forged["invariants"]
    journal = json.dumps(true | {"earned": true["points"]}).encode()
    beside = dict.fromkeys(("results/02/eve.json", "graded/results/02/eve.json", "eve.json"), journal)
    forgeries.directory(tmp_path / "second", "eve", notebook(WRONG), beside)
    assert run_grade(tmp_path, tmp_path / "second").marks("eve") == first.marks("eve")


def test_marks_written_to_standard_output_are_not_those_of_the_process_that_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vlab.course.marks import mark_answers

    monkeypatch.setenv("VLAB_LABS", str(make_labs(tmp_path)))
    marks = mark_answers("02", forgeries.cells()["prints_and_writes_marks"], "eve")
    assert [each.earned for each in marks] == [0.5, 0.0]
