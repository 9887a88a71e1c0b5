"""How containers are connected: bridges, addresses, ports and names, as plain values and the operations that follow.

`addresses` picks subnets and addresses, `ports` host ports; `bridge` turns a network, a container's place on it and its
published ports into operations; `files` writes what a container reads in /etc; `names` and `resolver` answer its
questions for names; `watch` notices when others change the host's packet filter. Who is on which network is the
engine's to know.
"""
