"""Report -> text: one module for each format. Nothing here decides a verdict."""
