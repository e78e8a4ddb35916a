"""Readers: the runs of a file, a database or a folder as one raw table, without a network."""
