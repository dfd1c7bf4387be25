"""Views for notebooks: what a virtual machine is and does, drawn.

Reading order: ``bundle`` and ``svg`` (what views are made of), ``view`` (what all have in common),
``lines`` and ``watching`` (how they hear the browser and follow a running VM), ``showing`` (which view
belongs to what), then a view each.
"""
