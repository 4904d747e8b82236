"""A spool in a directory: what was accepted outlives the process."""
