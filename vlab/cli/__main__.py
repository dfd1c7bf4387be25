"""`python -m vlab.cli` is `vlab`, for when the script is not on the path."""

from __future__ import annotations

import sys

from vlab.cli import main

sys.exit(main())
