"""Bits of shadow entries, and the rights that a guest's path of tables leaves to a page.

Shadow tables are real tables in PAE or 4-level format, whose entries agree (AMD APM vol. 2, rev. 3.42, 5.2.3
and 5.3). Accessed and dirty are set from the start, for nobody reads them here: the guest's own bits are kept
by leaving a page out until it is accessed, and read-only until it is written.
"""

from __future__ import annotations

from typing import Final

from vlab.isa.paging import Pte

PRESENT, WRITABLE, USER = Pte.P.mask, Pte.RW.mask, Pte.US.mask
ACCESSED, DIRTY, NO_EXECUTE = Pte.A.mask, Pte.D.mask, Pte.NX.mask
LARGE: Final = 1 << 7
FRAME: Final = Pte.FRAME.mask

MAY_WRITE: Final = 1 << 9
"""Software's own bit (AVL) in rights: the guest may write to the page, now or once it is dirty. What may be
written is not executable before its frame is fetched from: the emulator stores to executable pages ten times
slower, and a page of data should not pay for what a page of code may do."""

LEAF: Final = PRESENT | ACCESSED | DIRTY
LINK: Final = PRESENT | WRITABLE | USER | ACCESSED
"""An entry that points to a table grants everything: all that the path withholds, the last entry withholds.
"""

RIGHTS: Final = WRITABLE | USER
ENTRIES: Final = 512
"""Entries of a shadow table."""
