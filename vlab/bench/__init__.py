"""Measurements of speed and memory, each against its bar; `vlab.bench.registry` says how to add one."""
