"""Popek and Goldberg, measured: every sensitive and every privileged instruction, executed and compared.

Start reading in ``findings``; the two worlds are in ``worlds``, the machine that runs in them in ``runs``.
"""

from __future__ import annotations

from vlab.vmm.matrix.findings import BESIDE, EXPECTED, Difference, Finding, Matrix, Outcome, measure
from vlab.vmm.matrix.observation import Run

__all__ = ["BESIDE", "EXPECTED", "Difference", "Finding", "Matrix", "Outcome", "Run", "measure"]
