"""What the commands do, a file for each or for a few that belong together: tie the parts together and tell the user.

Results go to standard output, progress and complaints to standard error. Nothing is measured, planned or derived here.
The commands of larger parts are with them: `bench.gate.command`, `bench.history.command`, `bench.lab.run`, ...
"""
