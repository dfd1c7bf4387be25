"""Techniques compared: what the same operation costs under each monitor, counted, modelled and timed.

Start reading in ``nanobench``, which counts; ``costs`` and ``model`` turn counts into a processor's cycles;
``orderings`` says which of the results must hold, and whether they do.
"""

from __future__ import annotations
