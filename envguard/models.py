"""A model on disk against the rules and the memory of this machine."""
