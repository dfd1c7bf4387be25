"""Binary translation: the guest's kernel runs as a copy that the monitor has written.

Read in this order: ``context`` (what a translation depends on), ``encode`` (the few instructions that are
written anew), ``code_cache`` (where translations are), ``window`` (how the guest cannot see them), ``source``
(what they were made from), ``blocks`` (what is known of them), ``select``, ``indirect`` and ``translator``
(how they are made), ``accesses`` (what keeps faulting), ``core`` and ``monitor`` (how they run),
``anatomy`` and ``statistics`` (what can be told of them).
"""
