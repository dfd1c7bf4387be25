"""The end of a run, in words."""

from __future__ import annotations

from vlab.vmm.stop import Stop, StopKind


def test_the_headline_is_the_first_line_of_the_story() -> None:
    assert Stop(StopKind.EXIT, "the guest ended with status 3\nand more", 3).headline == (
        "the guest ended with status 3"
    )
    assert Stop(StopKind.PAUSED, "paused").headline == "paused"
    assert Stop(StopKind.PAUSED, "").headline == ""
