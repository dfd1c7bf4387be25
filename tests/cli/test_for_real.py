"""The command line on the real machine: bundled guests, signals, a pseudo-terminal, and Linux."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Result
from vlab.vmm.monitors import available, ways_for

Command = Callable[..., Result]

VLAB = [sys.executable, "-m", "vlab.cli"]
WAYS = available()


@pytest.mark.parametrize(("monitor", "paging"), ways_for("hello"))
def test_hello_prints_its_line_under_every_monitor(vlab_command: Command, monitor: str, paging: str) -> None:
    result = vlab_command("run", "hello", "--monitor", monitor, "--paging", paging)
    assert result.status == 0
    assert "hello from a boot sector" in result.out


def test_json_of_a_real_run_can_be_trusted(vlab_command: Command, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    result = vlab_command("run", "rings", "--memory", "32M", "--json", file)
    assert result.status == 0
    written = json.loads(file.read_text())
    assert (written["guest"], written["monitor"], written["clock"]) == ("rings", "hardware", "deterministic")
    assert written["memory_bytes"] == 32 << 20
    assert written["stop_reason"] == "exit"
    assert sum(written["exits"]["by_reason"].values()) == written["exits"]["total"] > 0
    assert written["console"] == result.out
    assert len(bytes.fromhex(written["state_hash"])) >= 16


def test_two_runs_give_the_same_state_and_the_same_trace(vlab_command: Command, tmp_path: Path) -> None:
    hashes = []
    for number in range(2):
        files = ["--json", tmp_path / f"{number}.json", "--trace", tmp_path / f"{number}.vlabtrace"]
        assert vlab_command("run", "rings", *files).status == 0
        hashes.append(json.loads((tmp_path / f"{number}.json").read_text())["state_hash"])
    assert hashes[0] == hashes[1]
    assert (tmp_path / "0.vlabtrace").read_bytes() == (tmp_path / "1.vlabtrace").read_bytes()
    assert "guest: rings" in vlab_command("trace", tmp_path / "0.vlabtrace").out


def test_a_triple_fault_tells_its_chain_and_is_status_1(vlab_command: Command) -> None:
    result = vlab_command("run", "tripfault")
    assert result.status == 1
    for words in ("triple fault", "#UD", "#GP", "#DF", "ud2", "rip="):
        assert words in result.err


def test_an_endless_loop_runs_into_its_timeout(vlab_command: Command) -> None:
    began = time.monotonic()
    result = vlab_command("run", "spin", "--timeout", "0.5")
    assert result.status == 3
    assert "the time ran out after 0.5 s" in result.err
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["linx"], "there is no guest named 'linx'; did you mean linux?"),
        (["hello", "--memory", "12Q"], "memory: '12Q' is not a size"),
        (["hello", "--monitor", "vmware"], "monitor: there is no 'vmware'"),
        (["hello", "--monitor", "none", "--paging", "nested"], "paging: 'nested' does not go with"),
        (["{junk}"], "junk"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_status_2(
    vlab_command: Command, tmp_path: Path, arguments: list[str], words: str
) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(bytes(range(1, 200)))
    result = vlab_command("run", *(argument.format(junk=junk) for argument in arguments))
    assert (result.status, result.out) == (2, "")
    assert words in result.err
    assert result.err.count("\n") == 1


def test_the_demo_holds(vlab_command: Command, tmp_path: Path) -> None:
    file = tmp_path / "demo.json"
    result = vlab_command("demo", "--json", file)
    assert result.status == 0, result.err
    written = json.loads(file.read_text())
    assert [(each["monitor"], each["paging"]) for each in written] == WAYS
    assert all(each["agrees"] or not each["expected_to_agree"] for each in written)
    assert sum(each["agrees"] for each in written) >= 3
    assert {each["guest"] for each in written} == {"wren", "wren-paravirt"}


@pytest.mark.skipif(sys.platform == "win32", reason="signals and pseudo-terminals are POSIX's")
class TestAsAProcess:
    def test_ctrl_c_ends_an_endless_guest_with_status_130(self, tmp_path: Path) -> None:
        file = tmp_path / "run.json"
        command = [*VLAB, "run", "spin", "--json", str(file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(b"spin:")
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
        assert process.returncode == 130
        assert errors == b"vlab: interrupted\n"
        assert json.loads(file.read_text())["stop_reason"] == "interrupted"

    def test_a_reader_that_goes_away_ends_an_endless_guest(self) -> None:
        command = [*VLAB, "run", "spin", "--timeout", "20"]
        # The descriptor of a pipe whose other end is closed before the guest writes.
        read, write = os.pipe()
        os.close(read)
        with subprocess.Popen(command, stdout=write, stderr=subprocess.PIPE) as process:
            os.close(write)
            _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (1, b"")

    def test_in_a_terminal_ctrl_bracket_ends_the_run_and_gives_the_terminal_back(self) -> None:
        import termios

        with Pty() as pty:
            before = termios.tcgetattr(pty.slave)
            process = pty.start("run", "spin")
            pty.wait_for(b"for ever")
            assert termios.tcgetattr(pty.slave) != before
            pty.type(b"\x03\x1d")
            assert process.wait(timeout=20) == 0
            assert termios.tcgetattr(pty.slave) == before

    def test_terminating_a_run_gives_the_terminal_back(self) -> None:
        import termios

        with Pty() as pty:
            before = termios.tcgetattr(pty.slave)
            process = pty.start("run", "spin")
            pty.wait_for(b"for ever")
            process.terminate()
            assert process.wait(timeout=20) == 128 + signal.SIGTERM
            assert termios.tcgetattr(pty.slave) == before

    @pytest.mark.linux
    @pytest.mark.slow
    def test_in_a_terminal_the_user_types_into_linux(self) -> None:
        with Pty() as pty:
            process = pty.start("run", "linux")
            pty.wait_for(b"# ", timeout=120)
            pty.type(b"echo $((6 * 7))\r")
            pty.wait_for(b"\n42\r", timeout=60)
            pty.type(b"\x01x")
            assert process.wait(timeout=20) == 0


@pytest.mark.linux
@pytest.mark.slow
def test_linux_boots_is_typed_to_and_answers(vlab_command: Command, tmp_path: Path) -> None:
    file = tmp_path / "linux.json"
    result = vlab_command(
        *("run", "linux", "--monitor", "hardware", "--paging", "nested"),
        *("--send", "uname -a; cat /proc/interrupts", "--after", "# ", "--expect", "x86_64 GNU/Linux"),
        *("--timeout", "300", "--json", file),
    )
    assert (result.status, result.err) == (0, "")
    written = json.loads(file.read_text())
    assert written["stop_reason"] == "expected"
    assert written["interrupts_delivered"] > 0


class Pty:
    """A pseudo-terminal with a `vlab` at its far end."""

    def __enter__(self) -> Pty:
        self.master, self.slave = os.openpty()
        self.process: subprocess.Popen[bytes] | None = None
        self.seen = b""
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        ends = {"stdin": self.slave, "stdout": self.slave, "stderr": self.slave}
        self.process = subprocess.Popen([*VLAB, *arguments], **ends, start_new_session=True)
        return self.process

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def wait_for(self, text: bytes, timeout: float = 20) -> None:
        """Read until `text` has appeared, after what earlier calls waited for."""
        deadline = time.monotonic() + timeout
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} did not appear after {self.seen[-500:]!r}"
            if select.select([self.master], [], [], left)[0]:
                self.seen += os.read(self.master, 4096)
        self.seen = self.seen.partition(text)[2]
