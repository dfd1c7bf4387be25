"""Where shadow tables are another thing than the guest's own, and why: in words.

Sections are those of AMD APM vol. 2, rev. 3.42 (APM2).
"""

from __future__ import annotations

from vlab.isa.paging import Fault, Translation
from vlab.vmm.walks import GuestWalk
from vlab.widgets.units import size_text


def differences(walk: GuestWalk) -> list[str]:
    """Tell in words where the shadow is another thing than the guest's tables, and why."""
    shadow = walk.shadow
    if shadow is None:
        return []
    mine, theirs = shadow.result, walk.result
    if isinstance(theirs, Fault):
        if isinstance(mine, Translation):
            if shadow.foreign:
                return ["Monitor's own: the guest maps nothing here; the page is one of the monitor's."]
            return [
                (
                    "Not flushed yet: the guest's tables do not map it any more, and the guest has not asked "
                    "for the old translation to be forgotten (APM2 5.5)."
                )
            ]
        return ["Guest's own fault: its tables map nothing here either, so it gets the #PF injected."]
    if isinstance(mine, Fault):
        if walk.host is None or walk.backing == "":
            return ["Nothing behind: no memory is there, so the monitor answers each access itself."]
        return [
            (
                "Not present yet = will be filled: the first access makes #PF exit, the monitor walks the "
                "guest's tables, fills the shadow entry, and the instruction starts again."
            )
        ]
    return _narrower(walk, mine, theirs)


def _narrower(walk: GuestWalk, mine: Translation, theirs: Translation) -> list[str]:
    """Compare two translations."""
    assert walk.shadow is not None
    lines = []
    if walk.shadow.foreign:
        lines.append("Monitor's own: the page is one of the monitor's, not of the guest's memory.")
    elif walk.host is not None and walk.shadow.host != walk.host:
        lines.append(
            "Not flushed yet: the guest's tables lead elsewhere by now, and the guest has not asked for the "
            "old translation to be forgotten (APM2 5.5)."
        )
    if theirs.writable and not mine.writable:
        if walk.backing == "ROM":
            lines.append("Read-only: firmware takes no writes, whatever the guest's entry says.")
        elif not theirs.dirty:
            lines.append(
                "Read-only until it is written: so the monitor hears of the first write, and sets D in the "
                "guest's entry as the processor would."
            )
        else:
            lines.append(
                "Write-protected: the monitor must hear of the next write here, for the page holds a page "
                "table of the guest's, or code that was translated."
            )
    if theirs.executable and not mine.executable:
        lines.append("NX until executed: what may be written becomes executable when it is fetched from.")
    if mine.page_size < theirs.page_size:
        lines.append(
            f"Smaller page: the shadow maps {size_text(mine.page_size)} of the guest's "
            f"{size_text(theirs.page_size)}."
        )
    if walk.shadow.fenced:
        lines.append(
            "Other addresses: entries name the tables' and the memory's places behind the monitor's fence."
        )
    return lines or ["Same: the shadow allows what the guest's tables allow, at the host's address."]
