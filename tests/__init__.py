"""The tests. A package, since a dependency of ours installs a `tests` of its own beside us."""
