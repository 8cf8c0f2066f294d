"""Pynchy: chats in, sandboxed agents, replies out."""

__version__ = "0.1.0"  # as in pyproject.toml; reading the metadata of a package takes 30 ms
