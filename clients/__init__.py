"""The load generator: a closed loop over verified echoes, its inner loop compiled, everything round it plain Python."""
