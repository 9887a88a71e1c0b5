"""From the OCI runtime specification to a plan. <https://github.com/opencontainers/runtime-spec>"""
