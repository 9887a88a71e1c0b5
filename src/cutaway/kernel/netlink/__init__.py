"""Netlink: the socket through which network devices, addresses, routes and packet filters are configured. `netlink(7)`.

`wire` is the protocol itself, `route` the family that speaks of links, addresses and routes (`rtnetlink(7)`),
`namespace` makes network namespaces and opens sockets inside them (`network_namespaces(7)`). The packet filter's
family is `kernel.nftables`.
"""
