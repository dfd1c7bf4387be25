"""``python -P -m vlab.course.marking_process``: mark one submission, a job on standard input.

It is a program of its own: a process that `multiprocessing` starts would first load the program that started
it, and who runs a grader may have written one that does its work when it is loaded.
"""

from __future__ import annotations

import sys

from vlab.grading.marker import mark_here

__all__ = ["main"]


def main() -> None:
    """Mark the job, and write the marks as the last line."""
    sys.stdout.write(f"\n{mark_here(sys.stdin.read())}\n")


if __name__ == "__main__":
    main()
