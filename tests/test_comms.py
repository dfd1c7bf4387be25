"""Which thread of a real kernel hears what a browser says to a view, and in which order."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

from tests.widgets.waiting import wait_for

CELL = """
import threading, time
import vlab
from vlab.widgets.exits_charts import Timeline
from vlab.widgets.terminal import Terminal
vm = vlab.VM('wren')
vm.run(until='$ ', timeout=60)
vm.start()
view = Terminal(vm)
threads, typed = set(), b''
def send(data, plain=vm.send):
    global typed
    threads.add(threading.current_thread().name.partition('-')[0])
    typed += data
    plain(data)
vm.send = send
timeline, brushed = Timeline(), []
timeline.brush.observe(lambda change: brushed.append(change['new']), 'selected')
"""
PATIENCE = 60.0


@pytest.fixture(scope="module")
def kernel() -> Iterator[BlockingKernelClient]:
    manager, client = start_new_kernel(startup_timeout=PATIENCE)
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def value(kernel: BlockingKernelClient, expression: str) -> str:
    """Give what an expression is in the kernel, as `repr` writes it."""
    reply = kernel.execute("", user_expressions={"it": expression}, reply=True, timeout=PATIENCE)
    found = reply["content"]["user_expressions"]["it"]
    assert found["status"] == "ok", found
    return str(found["data"]["text/plain"])


def subshell(kernel: BlockingKernelClient) -> str:
    """Open a subshell as JupyterLab does; skip the test where the kernel has none."""
    facts = kernel.kernel_info(reply=True, timeout=PATIENCE)["content"]
    if "kernel subshells" not in facts.get("supported_features", []):
        pytest.skip(f"ipykernel {facts['implementation_version']} has no subshells")
    kernel.control_channel.send(kernel.session.msg("create_subshell_request", {}))
    return str(kernel.control_channel.get_msg(timeout=PATIENCE)["content"]["subshell_id"])


class Browser:
    """What JupyterLab does for the widgets of CELL: it names the subshell for each message."""

    def __init__(self, kernel: BlockingKernelClient) -> None:
        self._kernel = kernel
        assert kernel.execute(CELL, reply=True, timeout=PATIENCE)["content"]["status"] == "ok"
        self._terminal = value(kernel, "view.comm.comm_id").strip("'")
        self._brush = value(kernel, "timeline.brush.comm.comm_id").strip("'")
        self._subshell = subshell(kernel)

    def press(self, key: str) -> None:
        content = {"kind": "keys", "view": "here", "answer": False}
        self._say(self._terminal, {"method": "custom", "content": content}, key.encode())

    def brush(self, start: float, stop: float) -> None:
        self._say(self._brush, {"method": "update", "state": {"selected": [start, stop]}})

    def _say(self, comm: str, data: dict[str, object], *buffers: bytes) -> None:
        message = self._kernel.session.msg("comm_msg", {"comm_id": comm, "data": data})
        message["header"]["subshell_id"] = self._subshell
        message["buffers"] = list(buffers)
        self._kernel.shell_channel.send(message)


@pytest.fixture
def browser(kernel: BlockingKernelClient) -> Browser:
    return Browser(kernel)


def test_keys_typed_fast_reach_the_guest_in_their_order_by_the_thread_that_the_browser_chose(
    kernel: BlockingKernelClient, browser: Browser
) -> None:
    wanted = "".join(f"echo {number:04}\n" for number in range(60))
    for key in wanted:
        browser.press(key)
        time.sleep(0.002)
    wait_for(lambda: value(kernel, "len(typed)") == str(len(wanted)))
    assert value(kernel, "typed.decode()") == repr(wanted)
    assert value(kernel, "sorted(threads)") == "['subshell']"


def test_keys_and_brushes_are_heard_while_a_cell_runs(kernel: BlockingKernelClient, browser: Browser) -> None:
    kernel.execute(
        f"until = time.monotonic() + {PATIENCE}\nprint('begun')\n"
        "while not (typed and brushed) and time.monotonic() < until: time.sleep(0.01)\n"
        "seen = typed.decode(), [*brushed]"
    )
    while "begun" not in kernel.get_iopub_msg(timeout=PATIENCE)["content"].get("text", ""):
        pass
    browser.press("x")
    browser.brush(0.25, 0.75)
    assert value(kernel, "repr(seen).replace('array', '')").strip('"') == "('x', [([0.25, 0.75])])"
