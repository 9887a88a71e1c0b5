"""nftables: tables of chains, sets and maps in the kernel; a chain's rules look at every packet that passes its hook.
`nft(8)`.

`expressions` are the words a rule is made of, `objects` the requests that make and delete tables, chains, rules, sets
and their elements, `ruleset` the socket that commits them, all or none, and lists what is there:

    web = Set("web", (INET_SERVICE,))
    filter = Table("ip", "example")
    with NftablesSocket() as nft:
        nft.commit(
            filter.create(),
            filter.create_set(web),
            filter.create_base_chain("input", "filter", NF_INET_LOCAL_IN),
            filter.add_rule("input", l4proto.equals("tcp"), dport.among(web), accept),
            filter.add_elements(web, [(80,), (443,)]),
        )
"""
