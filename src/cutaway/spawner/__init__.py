"""The small process that forks containers: their parent, the reader of their output, the keeper of their exit codes."""
