"""Programs that agents use, each through the real gateway: who gets out as policy says, and who is told why."""
