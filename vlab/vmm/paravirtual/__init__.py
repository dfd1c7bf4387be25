"""Paravirtualization: a guest that knows of its monitor, and asks for what it may not do itself.

The guest's kernel runs at CPL 1 on page tables of its own, which the processor walks and which only the
monitor writes. The conversation between the two is ``guests/sources/wren/hypercall.h``. Start reading in
``interface`` and ``frames``; ``hypercalls`` is the monitor's side of the conversation.
"""
