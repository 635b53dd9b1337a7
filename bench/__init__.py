"""The harness: from a sweep file to trials, records and what is made of them. It spawns servers and imports none."""
