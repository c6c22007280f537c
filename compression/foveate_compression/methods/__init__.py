"""How networks are made smaller: a short file for each method, which takes a `Work` and changes it (extra compress)."""
