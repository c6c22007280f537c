"""Offline tools that make models smaller and export them with a manifest."""
