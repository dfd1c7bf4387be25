"""The computer: processor, physical memory, clock, port and memory buses.

What the emulator underneath leaves out of a real processor is completed here, as microcode in Python:
delivery through the IDT, system calls, port permission, the world switch of AMD-V.
"""
