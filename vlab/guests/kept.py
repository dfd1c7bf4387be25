"""Where images that were made in this process are kept until it ends."""

from __future__ import annotations

import atexit
import hashlib
import shutil
import tempfile
from functools import cache
from pathlib import Path


def keep(image: bytes, name: str) -> Path:
    """Write an image to a file of that name and give its path; the same image has the same path.

    A VM reads its image again when it goes back to its start, so a file never changes once it is there.
    """
    path = _folder() / hashlib.sha256(image).hexdigest()[:16] / name
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(image)
    return path


@cache
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="vlab-images-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
