"""The regression gate: base and head measured in pairs, and a verdict that holds on a noisy machine.

model.py is what is written down, statistics.py and decide.py what follows from it; revision.py, sides.py,
measure.py and run.py fetch, start and measure servers. Only those four run anything.
"""
