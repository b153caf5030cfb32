"""A deep look: whether a backend really quantizes, saves, loads and runs a tiny model, found out in a child process."""
