"""Views for notebooks: what a virtual machine is and does, drawn.

Reading order: ``bundle`` and ``svg`` (what views are made of), ``view`` (what all have in common),
``watching`` (how they follow a running VM), ``showing`` (which view belongs to what), then a view each.
"""
