"""Facts of the x86 architecture as declarations and pure functions.

Nothing here executes anything: registers, control blocks, descriptors, exit codes, and the one page
walker. Every other package reads these, and this one reads none of them.
"""
