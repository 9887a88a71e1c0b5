"""The OCI distribution protocol (distribution-spec 1.1), spoken to registries over HTTP.

    settings        which hosts answer for a registry, and whom they have to prove to be: registries.toml, certs.d
    transport       HTTP itself: connections, proxies, TLS, redirects
    authentication  Basic and Bearer: what a registry asks for, and tokens
    session         requests to one registry: signed, repeated where that helps, refused in one sentence
    repository      what a repository holds: manifests, tags, blobs
    partial         what has come of a blob so far, for when a download stops
    upload          bringing blobs and manifests there
    login           whether a registry knows who claims to be whom
    access          as whom, and through which proxies: values, for the engine and those above it too

Only the worker process imports what speaks: `urllib3` costs 80 ms and 12 MB, which the engine is spared.
"""
