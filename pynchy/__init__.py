"""Pynchy: chats in, sandboxed agents, replies out."""
