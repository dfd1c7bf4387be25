"""The local APIC's vectors: requested (IRR), in service (ISR), level triggered (TMR), and their priorities.

Reference: Intel SDM vol. 3, 325384-077, section 10.8 ("SDM3"). A set of the 256 vectors is one integer with
bit n for vector n, so its highest member is one `bit_length` away.
"""

from __future__ import annotations


def _highest(vectors: int) -> int:
    """Return the highest vector of a set, -1 if it is empty."""
    return vectors.bit_length() - 1


def _class_of(vector: int) -> int:
    """Return the priority class of a vector, 0 for the -1 of an empty set."""
    return max(vector, 0) >> 4


class VectorSets:
    """The three sets and the task priority (`tpr`, 0 to 255) that decide what may interrupt."""

    __slots__ = ("in_service", "level", "requested", "tpr")

    def __init__(self) -> None:
        self.tpr = 0
        self.requested = 0
        self.in_service = 0
        self.level = 0

    def request(self, vector: int, level_triggered: bool) -> None:
        """Put a vector into the IRR; a second request before the first is served is the same one."""
        place = 1 << vector
        self.requested |= place
        self.level = self.level | place if level_triggered else self.level & ~place

    def processor_priority(self) -> int:
        """Return the PPR: the higher of the task's priority and the class in service (SDM3 10.8.3.1)."""
        in_service = _class_of(_highest(self.in_service))
        return self.tpr if self.tpr >> 4 >= in_service else in_service << 4

    def arbitration_priority(self) -> int:
        """Return the APR, which the arbitration on the APIC bus compared (SDM3 10.6.2.4)."""
        requested, in_service = _class_of(_highest(self.requested)), _class_of(_highest(self.in_service))
        task = self.tpr >> 4
        if task >= requested and task > in_service:
            return self.tpr
        return max(task & in_service, requested) << 4

    def deliverable(self) -> int:
        """Return the requested vector whose class is above the processor's priority, -1 if there is none."""
        vector = _highest(self.requested)
        return vector if _class_of(vector) > self.processor_priority() >> 4 else -1

    def serve(self, vector: int) -> None:
        """Move a vector from the IRR to the ISR."""
        self.requested &= ~(1 << vector)
        self.in_service |= 1 << vector

    def end(self) -> tuple[int, bool]:
        """End the highest vector in service; return it (-1: none was) and whether it is level triggered."""
        vector = _highest(self.in_service)
        if vector < 0:
            return -1, False
        self.in_service &= ~(1 << vector)
        return vector, bool(self.level >> vector & 1)
