"""The virtual machine monitor: ordinary software on the computer of ``vlab.machine``."""
