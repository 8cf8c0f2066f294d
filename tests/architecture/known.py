"""What does not keep the laws of the house yet. These lists only shrink: take out what you mend, add nothing."""

# Modules that import each other.
CIRCLES: list[set[str]] = []

# Arrows between rooms; without them there is no circle of rooms.
ARROWS: set[tuple[str, str]] = set()

# Modules outside store/ that speak SQL.
SQL: set[str] = set()

# Processes that are not started by `trio.run_process`.
PROCESSES: set[str] = {
    "pynchy.cli.auth",  # a command without a loop: it reads one process to its end
    "pynchy_agent.launch",  # before trio is imported: both take long, and go side by side
}

# Functions of more than six parameters, with how many.
WIDE: dict[str, int] = {}
