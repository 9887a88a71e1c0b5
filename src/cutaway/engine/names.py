"""Names for containers that were given none: an adjective and a part of a machine, as one would label a drawing."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_ADJECTIVES = [
    "amber", "brave", "brisk", "bright", "calm", "candid", "clever", "cosmic", "crisp", "curious", "daring",
    "deft", "eager", "early", "earnest", "fair", "fleet", "fond", "frank", "gentle", "glad", "golden", "grand",
    "happy", "hardy", "honest", "humble", "jolly", "keen", "kind", "light", "lively", "lucid", "lucky", "mellow",
    "merry", "mighty", "modest", "neat", "nimble", "noble", "patient", "plain", "polite", "prompt", "proud",
    "quick", "quiet", "rapid", "ready", "round", "sharp", "silver", "simple", "sleek", "smart", "snug", "sober",
    "solid", "spry", "steady", "still", "stout", "sturdy", "sunny", "swift", "tidy", "tranquil", "trusty",
    "upright", "useful", "valiant", "vivid", "warm", "watchful", "wise", "witty", "zesty",
]  # fmt: skip
_PARTS = [
    "anchor", "anvil", "axle", "beacon", "bearing", "bellows", "bobbin", "boiler", "bolt", "bridge", "cam",
    "capstan", "clutch", "cog", "compass", "coupling", "crank", "cylinder", "dial", "drum", "dynamo",
    "escapement", "ferrule", "flange", "flywheel", "fulcrum", "gauge", "gear", "gimbal", "governor", "gyro",
    "hinge", "hopper", "impeller", "lantern", "lathe", "lens", "lever", "loom", "magnet", "mandrel", "piston",
    "pivot", "planer", "plumb", "pulley", "pump", "quill", "ratchet", "rivet", "rotor", "rudder", "sextant",
    "shaft", "shuttle", "spindle", "spring", "sprocket", "starter", "stylus", "tappet", "throttle", "turbine",
    "vane", "valve", "wheel", "winch", "windlass", "yoke",
]  # fmt: skip


def new_name(is_free: Callable[[str], bool]) -> str:
    """A name that is free, with a number behind it when luck runs out."""
    for attempt in range(1000):
        name = f"{random.choice(_ADJECTIVES)}_{random.choice(_PARTS)}" + (str(attempt) if attempt > 5 else "")
        if is_free(name):
            return name
    raise RuntimeError("no free name found")
