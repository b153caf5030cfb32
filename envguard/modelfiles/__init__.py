"""Model files, read without any library: headers and configurations alone, in bounded time and memory.

Nothing here imports a backend, executes or unpickles anything, or reads a weight. Whatever does not hold to its format
is refused with `BadModel`: one line that names file, place, what was expected and what was found.
"""
