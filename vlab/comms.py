"""Which thread of the kernel hears what a browser says on a comm: the one that the browser chose.

JupyterLab has widgets talk to a subshell, a thread that listens while a cell runs. ipykernel 7.4 does not ask
the browser: it hands a message to the thread in whose context the kernel has last published on that comm
(``ipykernel.comm.comm.BaseComm``). Views here publish from threads that follow a guest, and from cells; two
keys typed one after the other would go to two threads and overtake each other, or wait for a cell to end.
"""

from __future__ import annotations


def heard_where_sent(comm: object) -> None:
    """Have the messages on this comm handled by the subshell that their sender named, all in their order.

    Without effect on kernels that do so anyway.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda _data, named: named
