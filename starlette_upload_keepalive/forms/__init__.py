"""A form, from the messages of its body to its fields and uploads."""
