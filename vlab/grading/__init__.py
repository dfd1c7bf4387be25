"""Grading: exercises judged by what real guests do, and student code that is never trusted.

The virtual machine and every check run in a process of ours. A student's code runs elsewhere: in the
notebook's own kernel for a self-check, in a jail when marks are at stake. It is asked through one protocol
(`vlab.grading.student`), and nothing that it says is believed; what counts is what the guest does with it.
"""
