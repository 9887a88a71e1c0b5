"""Cutaway measured beside Docker, podman, crun, runc and bubblewrap, on one host in one run: `python -m bench`.

Every measure takes its contestants in turn, round after round, so that what else the machine does hits all alike, and
compares within a round. Nothing here is a test: figures depend on the machine.
"""
