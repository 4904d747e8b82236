"""A gallery: uploads are answered at once and worked on afterwards. Run it with `make demo`."""
