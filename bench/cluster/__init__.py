"""Past one machine: load from many hosts, and sweeps over many like machines, on Dask distributed.

Scheduling, transport, TLS and the watch over workers are Dask's. Here is what runs on the workers (hosts.py), who
drives it (roles.py, many.py), and what is pure: how load is split and merged (split.py), and how far it would carry
(capacity_model.py). Nothing outside of this package imports it but the command, and nothing in it is imported at home.
"""
