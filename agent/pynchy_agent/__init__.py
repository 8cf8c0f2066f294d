"""The guest: what runs inside a container. Imports nothing of the host."""
