"""Guests whose kernel runs outside ring 0: what the software techniques share.

The processor has no virtualization extension. The guest's kernel executes at CPL 1 and its programs at CPL 3,
over shadow page tables; ring 0 is the monitor's. Start reading in ``virtual_core``, the processor as the
guest is to see it; ``emulator`` carries out on it what traps.
"""
