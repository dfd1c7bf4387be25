"""vlab in a notebook, beside its views: cells of assembly, ``%vm``, the side panel's other half."""
