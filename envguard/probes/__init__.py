"""The machine -> facts: one file for each kind of fact."""
