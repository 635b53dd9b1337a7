"""Runs over time: their estimates by case and commit, and where a case has changed for good.

store.py reads and keeps them, order.py asks git for their order, change.py finds the changes, command.py and otava.py
tell them. Nothing is measured here.
"""
