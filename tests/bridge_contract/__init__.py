"""What the daemon relies on in a bridge, tried on a real one over its standard input and output.

docs/bridge.md is the contract. `PYNCHY_TEST_BRIDGE` names another bridge to try, as a shell would.
"""
