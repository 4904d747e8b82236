"""Stored files: from the bytes of a body to what their owners read, save and hand on."""
