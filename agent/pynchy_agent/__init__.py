"""The guest: what runs inside a container. It knows nothing of the daemon but the wire."""
