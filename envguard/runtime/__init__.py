"""Runs the backends. The only place where one is imported, and only for a permit."""
