"""Real servers on one spool, killed again and again, while clients upload: `make soak`."""
