"""`cutaway-oci`: the OCI runtime that other engines call, with runc's command line, output, messages and exit codes.

It uses neither engine nor spawner. Each invocation does one thing and ends; what lives on is the container's first
process and a directory under `--root`. Every module here is imported when a verb needs it, since starting is most of
what an invocation costs.
"""
