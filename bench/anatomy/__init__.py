"""Anatomy of one echo: every system call that one message takes, under strace, drawn as a timeline.

`steps.py` is what is known of an echo and what each call means, `trace.py` reads what strace writes, `take.py` sends
the message, `show.py` prints, `run.py` is the command. The figure is bench/figures/anatomy.py; see docs/anatomy.md.
"""
