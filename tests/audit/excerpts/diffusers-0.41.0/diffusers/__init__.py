# Excerpt of diffusers 0.41.0, __init__.py: its version alone.
__version__ = "0.41.0"
