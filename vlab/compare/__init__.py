"""Techniques compared: what the same operation costs under each monitor, counted, modelled and timed.

Start reading in ``side_by_side``, whole guests, and ``nanobench``, single operations; `vlab.costs` turns
their counts into a processor's cycles; ``orderings`` says which of the results must hold, and whether they
do.
"""

from __future__ import annotations
