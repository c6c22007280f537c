"""The engines that hop.py is measured beside; each in an environment of its own."""
