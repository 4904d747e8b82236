"""Jobs: what handlers are, when their jobs run, and what becomes of them."""
