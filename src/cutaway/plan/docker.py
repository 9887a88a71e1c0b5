"""Living beside Docker, whose FORWARD chain drops every packet that is not Docker's own.

A packet that one table drops is lost whatever the others say, so what is ours must be let through Docker's table too.
The rules come last in its chain, behind all that Docker and the host's administrator decide there, and they are such
that iptables can list them. `nft(8)`, `iptables(8)`.
"""

from __future__ import annotations

from cutaway.kernel.nftables.expressions import accept, counter, iifname, jump, oifname
from cutaway.kernel.nftables.objects import Table
from cutaway.kernel.nftables.ruleset import kept_socket
from cutaway.plan.operation import Context, Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

FILTER = Table("ip", "filter")
FORWARD = "FORWARD"
DOCKERS = "DOCKER-USER"
"""A chain that is there where Docker is."""
ISOLATION = "DOCKER-ISOLATION-STAGE-2"
"""Drops what would enter one of Docker's networks; Docker before 28 has it."""


class AllowForwarding(Operation):
    """Lets a bridge's packets pass Docker's packet filter, but not into Docker's networks.

    Nothing is done where Docker is not. It may come later: applied again, this adds what is missing and nothing else.
    """

    bridge: str

    manual = "iptables(8)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        nft = kept_socket()
        chains = {chain.name for chain in nft.chains("ip") if chain.table == FILTER.name}
        present, wanted = self._handles(), self._rules(chains)
        if len(present) != len(wanted):
            nft.commit(
                *(FILTER.delete_rule(FORWARD, handle) for handle in present),
                *(FILTER.add_rule(FORWARD, rule, comment=self._comment()) for rule in wanted),
            )

    def undo(self, context: Context) -> None:  # noqa: ARG002
        kept_socket().commit(*(FILTER.delete_rule(FORWARD, handle) for handle in self._handles()))

    def shell(self) -> str:
        into, out, back = self._specifications()
        return f"""\
if iptables -n -L {DOCKERS} >/dev/null 2>&1; then
    if iptables -n -L {ISOLATION} >/dev/null 2>&1; then iptables -A {into}; fi
    iptables -A {out}
    iptables -A {back}
fi"""

    def shell_undo(self) -> str:
        return "\n".join(f"iptables -D {rule} 2>/dev/null || true" for rule in self._specifications())

    def why(self) -> str:
        return f"Docker's FORWARD chain drops what is not Docker's; this lets the packets of {self.bridge} pass it."

    def _comment(self) -> str:
        return f"cutaway {self.bridge}"

    def _rules(self, chains: AbstractSet[str]) -> list[bytes]:
        if not {FORWARD, DOCKERS} <= chains:
            return []
        ways = [iifname.equals(self.bridge) + counter + accept, oifname.equals(self.bridge) + counter + accept]
        return [iifname.equals(self.bridge) + counter + jump(ISOLATION), *ways] if ISOLATION in chains else ways

    def _handles(self) -> list[int]:
        return [rule.handle for rule in kept_socket().rules(FILTER, FORWARD) if rule.comment == self._comment()]

    def _specifications(self) -> tuple[str, str, str]:
        comment = f"-m comment --comment '{self._comment()}'"
        return (
            f"{FORWARD} -i {self.bridge} {comment} -j {ISOLATION}",
            f"{FORWARD} -i {self.bridge} {comment} -j ACCEPT",
            f"{FORWARD} -o {self.bridge} {comment} -j ACCEPT",
        )
