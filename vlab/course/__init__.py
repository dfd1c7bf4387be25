"""Courses: from a lesson's one source to its editions, and to what nbgrader and otter take.

Here alone is known what notebooks are made with; jupytext, nbformat, nbgrader and otter are imported where
they are needed and come with the extra ``vlab[grade]``. Neither grader runs a line of a student's in its own
process: both show what `vlab.grading.marking` gives.
"""
