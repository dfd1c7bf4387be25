"""Shadow paging: page tables of the monitor's own, kept in step with the guest's."""

from __future__ import annotations

from vlab.vmm.paging.shadow.filled import FilledPaging
from vlab.vmm.paging.shadow.strategy import FRAMES, VARIANTS, ShadowPaging

__all__ = ["FRAMES", "VARIANTS", "FilledPaging", "ShadowPaging"]
