"""What Linux offers for isolating processes, one file per idea, each after its manual page.

Nothing here knows what a container is. Everything here works on its own: see `examples/`.
"""
