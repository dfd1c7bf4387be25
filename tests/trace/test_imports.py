from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import vlab.trace", {"numpy", "pandas", "vlab.trace.recorder"}),
        (
            "from vlab.trace import Recorder, Kind; Recorder(['X'], level='full').record(*[0] * 10)",
            {"numpy", "pandas"},
        ),
        ("from vlab.trace import Exits, Recorder; repr(Exits(Recorder(['X'])))", {"numpy", "pandas"}),
        ("from vlab.trace import load, save, summarize", {"numpy", "pandas"}),
        ("from vlab.trace import Exits, Recorder; len(Exits(Recorder(['X'])))", {"pandas"}),
    ],
)
def test_recording_needs_neither_numpy_nor_pandas(statement: str, absent: set[str]) -> None:
    program = f"{statement}\nimport sys\nprint(*sys.modules, sep='\\n')"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert absent.isdisjoint(run.stdout.split())


def test_an_unknown_name_lists_those_there_are() -> None:
    import vlab.trace

    with pytest.raises(
        AttributeError, match=r"module 'vlab.trace' has no attribute 'Recoder'; it has .*Recorder"
    ):
        _ = vlab.trace.Recoder
    assert "Exits" in dir(vlab.trace)
    for name in vlab.trace.__all__:
        assert getattr(vlab.trace, name) is not None
