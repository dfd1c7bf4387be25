"""What things cost on processors of the past: published and estimated figures, and a model that adds them.

Start reading in ``costs.toml``, the table; ``table`` reads it, ``readings`` is what was counted of
``operations``, ``model`` turns counts into cycles. Nothing here runs anything: `vlab.compare` does.
"""

from __future__ import annotations
