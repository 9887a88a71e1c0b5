"""A container is a list of kernel operations; here are the operations and the list."""
