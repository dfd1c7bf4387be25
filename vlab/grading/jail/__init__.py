"""The jail: student code in a process of its own that can compute and answer, and nothing else.

`student.JailedStudent` is the way in, `launch.Zygote` starts the processes, `layers.confinement` says what
holds them on this computer. docs/GRADING_SECURITY.md says what that is good for.
"""
