"""Echo servers, one for each I/O strategy: the systems under test, and the textbook.

Standard library only, Python 3.9 or later, so that any interpreter can run them.
"""
