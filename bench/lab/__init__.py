"""The lab: each file that has an EXPERIMENT makes the kernel show one mechanism, alone.

A new experiment is a new file here and no other edit; docs/lab.md says how to write one.
"""
