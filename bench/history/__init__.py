"""Runs over time: their estimates by case and commit, and where a case has changed for good.

store.py reads and keeps them, change.py finds the changes, show.py and otava.py write them down. Nothing is run here.
"""
