"""The commands a person types, one file each.

The rule that keeps it so: a command is a client of the control socket (all but `run`), and a module
is imported when its command is asked for. None of them imports trio before it must, and `start`,
which is on the way to ready, imports no click.
"""
