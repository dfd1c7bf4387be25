"""A folder of the learner's own with the lessons' notebooks, to write in."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from vlab.errors import UnusableInput
from vlab.grading.catalogue import lessons

FOLDER: Final = "vlab-labs"


def bring(place: Path) -> Path | None:
    """Copy the lessons that are not in ``place``/vlab-labs yet, and give that folder.

    What is there already is the learner's and stays as it is. None where no lessons are installed. Raises
    UnusableInput when it cannot be written.
    """
    notebooks = [each.notebook for each in lessons() if each.notebook.exists()]
    if not notebooks:
        return None
    folder = place / FOLDER
    try:
        folder.mkdir(exist_ok=True)
        for notebook in notebooks:
            if not (folder / notebook.name).exists():
                shutil.copyfile(notebook, folder / notebook.name)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise UnusableInput(
            f"lab: the lessons cannot be copied to {folder}: {why}; start it in a folder of your own"
        ) from error
    return folder
