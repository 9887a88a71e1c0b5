"""Verbs that run in the caller's own process, a module each, of its name: to start one, no other has to be imported."""
