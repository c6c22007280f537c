"""Looks inside recordings, compares, cuts and mends them, and trades them with other formats."""
