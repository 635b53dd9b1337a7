"""`iobench calibrate`: twelve claims about the load generator, each measured on this machine in a way that can fail."""
