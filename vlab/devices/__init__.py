"""The chips of a PC, one per file: registers, state and injected callables; none knows the bus or the clock.

Every device offers `read`, `write`, `save` and `restore` (see `vlab.devices.wiring`); what it keeps is a
versioned dataclass (see `vlab.devices.state`), which is also what the views display.
"""
