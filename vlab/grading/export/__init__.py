"""Results in the formats of others: CSV, Canvas, Gradescope, nbgrader, tools against plagiarism."""
