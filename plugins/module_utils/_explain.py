# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a packet goes on this node, and why: what bpf/balancer.c does with it, step by step.

Private to the collection. Reads only: no counter, flow or cached next hop changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils import (
    _links,
    _nexthop,
    _program,
    _quic,
    _steer,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._address import endpoint, packed
from ansible_collections.l4lb.xdp.plugins.module_utils._flowhash import (
    gue_source_port,
    identity_hash,
    outer_source,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._flowhash import slot as slot_number
from ansible_collections.l4lb.xdp.plugins.module_utils._kernel import (
    BackendEntry,
    PoolEntry,
    ServiceEntry,
    ServiceKey,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._lookup import Lookup
from ansible_collections.l4lb.xdp.plugins.module_utils._packet import Packet
from ansible_collections.l4lb.xdp.plugins.module_utils._refused import refused
from ansible_collections.l4lb.xdp.plugins.module_utils._rings import seconds
from ansible_collections.l4lb.xdp.plugins.module_utils._tables import Tables, now_tick


@dataclass
class Explanation:
    """The answer, filled in as far as the packet gets; see the module's RETURN."""

    packet: dict[str, Any]
    service: dict[str, Any] | None = None
    pool: dict[str, Any] | None = None
    hash: str | None = None
    slot: dict[str, Any] | None = None
    flow: dict[str, Any] | None = None
    backend: dict[str, Any] | None = None
    tunnel: dict[str, Any] | None = None
    nexthop: dict[str, Any] | None = None
    verdict: str = "pass_foreign"
    why: list[str] = field(default_factory=list)


class Explainer:
    """Explains packets by the live maps and routes of a node; compiles once for all of them."""

    def __init__(self, tables: Tables, source: Path, pins: Path) -> None:
        self._tables = tables
        self._lookup = Lookup(tables)
        self._ring_size = tables.sizes.ring
        self._settings = tables.settings()
        self.asker = _nexthop.Asker(source, pins, tables.sizes)
        _pinned, self._running = _program.running(pins / "balancer")

    def renew(self) -> None:
        """Reads the node's settings anew: whoever keeps this while l4lb.xdp.program may run."""
        self._settings = self._tables.settings()

    def explain(self, packet: Packet, interface: str | None = None) -> dict[str, Any]:
        """What happens to a packet that comes in by the interface; None: the first that balances.

        Raises L4lbError when there is no such interface.
        """
        ingress, note = _ingress(packet, interface, list(self._running))
        answer = Explanation(_arguments(packet, ingress), why=note)
        index = self._to_backend(answer, packet)
        if index:
            self._forward(answer, index, ingress)
        return vars(answer)

    def steer(self, packet: Packet, ingress: str) -> tuple[Explanation, int]:
        """As far as the backend, and its index, 0 for none; of a proof, which no guard refuses.
        Asks maps alone, so it is quick.
        """
        answer = Explanation(_arguments(packet, ingress))
        return answer, self._to_backend(answer, packet, guarded=False)

    def _to_backend(self, answer: Explanation, packet: Packet, guarded: bool = True) -> int:
        found = self._lookup.shortcut(packet) if packet.is_balanced else None
        if found is None and not self._lookup.passes(packet):
            answer.why.append(self._foreign_text(packet))
            return 0
        if found is None and packet.is_balanced:
            found = self._lookup.service(packet)
        if found is None:
            return self._unserved(answer, packet)
        if guarded and self._refused(answer, packet, found[1]):
            answer.service = {"name": found[1].name, **found[0]._asdict()}
            return 0
        return self._steer(answer, packet, *found)

    def _refused(self, answer: Explanation, packet: Packet, service: ServiceEntry | None) -> bool:
        """Whether a guard drops the packet."""
        verdict, why = refused(self._tables, packet, service)
        answer.why += [why] if why else []
        answer.verdict = verdict or answer.verdict
        return verdict is not None

    def _unserved(self, answer: Explanation, packet: Packet) -> int:
        """What no service takes: somebody else's, an echo request, or of another port. Only an echo
        request can get a backend, whose index is returned.
        """
        first = self._lookup.address(packet)
        if first is None:
            answer.why.append(self._foreign_text(packet))
            return 0
        forwarded = packet.is_icmp and self._settings["echo"] == "forward"
        if self._refused(answer, packet, first if forwarded else None):
            return 0
        if forwarded:
            answer.why.append(_ERROR_TEXT)
            key = ServiceKey(packet.destination, 0, packet.protocol)
            return self._steer(answer, packet, key, first)
        if packet.is_icmp:
            answer.verdict, text = _ECHO[self._settings["echo"]]
            answer.why.append(f"{text}; {_ERROR_TEXT}")
        else:
            answer.verdict, text = _OTHER_PORTS[self._settings["other_ports"]]
            answer.why.append(f"{_no_service_text(packet)} {text}")
        return 0

    def _foreign_text(self, packet: Packet) -> str:
        if self._lookup.address(packet) is None:
            return f"{packet.destination} is no service's address: {packet} {_FOREIGN}"
        return (
            f"{packet.destination} is a service's address, but the filter in front of the services "
            f"lacks it: {packet} {_FOREIGN}; somebody else wrote to the maps of this node, and "
            "l4lb.xdp.services puts it right"
        )

    def _steer(
        self, answer: Explanation, packet: Packet, key: ServiceKey, service: ServiceEntry
    ) -> int:
        """Service to backend; returns the backend's index, 0 for none."""
        pool = self._lookup.pool(service.pool)
        answer.service = {"name": service.name, **key._asdict()}
        answer.pool = {
            "name": pool.name,
            "tracking": pool.tracking,
            "algorithm": pool.algorithm,
            "identity": pool.identity,
            "forwarding": pool.forwarding,
        }
        answer.why.append(_service_text(packet, key, service, pool))
        hashed = self._hash(packet, pool)
        answer.hash = f"{hashed:016x}"
        server = self._by_connection_id(answer, packet, service.pool, pool)
        if server:
            self._describe(answer, pool, server[1], hashed)
            return server[0]
        slot = self._lookup.slot(service.pool, slot_number(hashed, self._ring_size))
        answer.why.append(
            f"{_HASHED[pool.identity]} {answer.hash} picks slot {slot.number} of {self._ring_size}"
        )
        flow = self._lookup.flow(packet) if packet.is_balanced else None
        named = {slot.current, slot.previous, flow.backend if flow else 0} - {0}
        entries = {index: self._lookup.backend(index) for index in sorted(named)}
        backends = {index: entry for index, entry in entries.items() if entry}
        now = now_tick()  # after the lookups: nothing that they found is later
        decide = _steer.decide if packet.is_balanced else _steer.decide_echo
        steered = decide(packet, pool, slot, flow, backends, now)
        answer.why += steered.why
        if self._settings["new_records"] and any("is recorded there" in t for t in steered.why):
            answer.why.append(_records_text(self._settings["new_records"]))
        answer.slot = _slot(slot, backends, now)
        if flow:
            answer.flow = {
                "backend": _address(backends, flow.backend),
                "seen_seconds_ago": _age(flow.seen, now),
                "believed": steered.believed,
            }
        if not steered.backend or steered.backend not in backends:
            answer.verdict = "drop_no_backend"
            return 0
        self._describe(answer, pool, backends[steered.backend], hashed)
        return steered.backend

    def _by_connection_id(
        self, answer: Explanation, packet: Packet, index: int, pool: PoolEntry
    ) -> tuple[int, BackendEntry] | None:
        """The backend that a connection id names, as bpf/quic.h finds it; None when the hash
        decides.
        """
        if pool.quic is None or packet.protocol != "udp":
            return None
        if not packet.connection_id:
            answer.why.append(
                "the pool asks for QUIC; taken to be an Initial or 0-RTT packet, or none of QUIC, "
                "which go by hash (connection_id: explains the others)"
            )
            return None
        text = packet.connection_id.hex()
        number = _quic.read_id(packet.connection_id, pool.quic)
        if number is None:
            answer.why.append(
                f"connection id {text} is not of config_id {pool.quic.config_id} with "
                f"{pool.quic.server_id_length} bytes of server_id: it goes by hash"
            )
            return None
        shown = _quic.text_of(number, pool.quic.server_id_length)
        found = self._lookup.server(index, number)
        backend = self._lookup.backend(found) if found else None
        if backend is None:
            answer.why.append(
                f"connection id {text} has server_id {shown}, which no backend of pool "
                f"{pool.name} has: it goes by hash"
            )
            return None
        whose = f"connection id {text} has server_id {shown}, that of {backend.address}"
        if not backend.lives:
            condition = backend.health if backend.health != "up" else backend.state
            answer.why.append(f"{whose}, which is {condition}: it goes by hash")
            return None
        answer.why.append(f"{whose}: it goes there, whatever its slot and its flow say")
        return found, backend

    def _hash(self, packet: Packet, pool: PoolEntry) -> int:
        return identity_hash(
            pool.identity,
            self._settings["hash_seed"],
            packed(packet.source),
            packed(packet.destination),
            packet.protocol_number,
            packet.source_port,
            packet.destination_port,
        )

    def _describe(
        self, answer: Explanation, pool: PoolEntry, backend: BackendEntry, hashed: int
    ) -> None:
        answer.backend = {
            "address": backend.address,
            "weight": backend.weight,
            "state": backend.state,
            "health": backend.health,
            "pool": self._lookup.pool(backend.pool).name,
        }
        family = _family(backend.address).lower()
        prefix = self._settings[f"source_prefix_{family}"]
        answer.tunnel = {
            "kind": pool.forwarding,
            "source": outer_source(prefix, hashed) if prefix else self.own_source(backend.address),
            "destination": backend.address,
        }
        if pool.forwarding == "gue":
            answer.tunnel["source_port"] = gue_source_port(hashed)
            answer.tunnel["destination_port"] = self._settings["gue_port"]
        if backend.health != "up":
            answer.why.append(
                f"{backend.address} is {backend.health}, but the ring still points to it"
            )

    def own_source(self, backend: str) -> str | None:
        """The node's address of the backend's family, with which the kernel is asked for routes."""
        source: str | None = self._settings[f"source_{_family(backend).lower()}"]
        return source

    def _forward(self, answer: Explanation, index: int, ingress: str) -> None:
        """Backend to next hop and verdict."""
        tunnel = answer.tunnel or {}
        destination = tunnel["destination"]
        source = self.own_source(destination)
        if source is None:
            family = _family(destination)
            answer.verdict = "drop_no_source"
            answer.why.append(
                f"{destination} is {family} and this node has no {family} source address "
                f"(source_{family.lower()} of l4lb.xdp.program): the packet is dropped"
            )
            return
        hop = self.asker.ask(source, destination, _links.interface(ingress).index)
        state = _nexthop.neighbour_state(hop)
        answer.verdict = _nexthop.verdict(hop, ingress)
        if answer.verdict == "to_kernel":
            tunnel["source"] = source
        if tunnel["kind"] == "l2" and hop.address not in (None, destination):
            answer.verdict = "drop_no_route"
            answer.why.append(_nexthop.off_link(hop, destination))
            return
        if hop.interface:
            via = hop.address if hop.address != destination else None
            answer.nexthop = {
                "interface": hop.interface,
                "mac": hop.mac,
                "via": via,
                "neighbour": state,
            }
        answer.why.append(_nexthop.explain(hop, destination, ingress, state))
        answer.why += _nexthop.stale(hop, self.asker.in_use(self._lookup.hops(index)))


def explain(packet: Packet, interface: str | None, pins: Path, source: Path) -> dict[str, Any]:
    """One packet's way. Raises L4lbError when no balancer is prepared here, or there is no such
    interface.
    """
    _links.require_libraries()
    return Explainer(Tables(pins, source), source, pins).explain(packet, interface)


def _arguments(packet: Packet, ingress: str) -> dict[str, Any]:
    """The packet as the module's arguments describe it."""
    return {
        "source_address": packet.source,
        "destination_address": packet.destination,
        "protocol": packet.protocol,
        "source_port": packet.source_port if packet.is_balanced else None,
        "destination_port": packet.destination_port if packet.is_balanced else None,
        "opens": packet.opens,
        "connection_id": packet.connection_id.hex() or None,
        "interface": ingress,
    }


def _ingress(packet: Packet, wish: str | None, running: Sequence[str]) -> tuple[str, list[str]]:
    """The interface that the packet comes in by, and what has to be said about it."""
    if wish is not None:
        name = _links.interface(wish).name
        if name in running:
            return name, []
        return name, [
            f"{name} does not run the balancer: a packet that comes in there goes to the kernel "
            "untouched; what follows is what the balancer would do"
        ]
    if running:
        others = f", one of {', '.join(running)}" if len(running) > 1 else ""
        return running[0], [f"taken to come in by {running[0]}{others}"] if others else []
    _kind, back = _nexthop.route(packet.source)
    links = [link.name for link in _links.interfaces()]
    name = back or next((name for name in links if name != "lo"), "lo")
    return name, [
        "no interface runs the balancer: packets go to the kernel untouched (l4lb.xdp.program "
        f"attaches it); what follows is what it would do to a packet that comes in by {name}"
    ]


_HASHED = {
    "five_tuple": "its hash",
    "without_source_port": "the hash of all but its source port",
    "source_address": "the hash of its source address alone",
    "destination_port": "the hash of its destination port alone",
}
_FOREIGN = "goes to the kernel untouched"
_ERROR_TEXT = "an error about a flow of a service goes where the flow goes: ask about that"
_ECHO = {
    "answer": (
        "answered_echo",
        "an echo request to a service's address is answered by the node",
    ),
    "pass": (
        "pass_unserved",
        f"an echo request to a service's address {_FOREIGN} (echo: pass)",
    ),
}
_OTHER_PORTS = {
    "drop": ("drop_unserved", "is dropped"),
    "pass": ("pass_unserved", f"{_FOREIGN} (other_ports: pass)"),
}


def _no_service_text(packet: Packet) -> str:
    if not packet.is_balanced:
        return f"only tcp, udp and sctp are balanced: {packet}"
    where = endpoint(packet.destination, packet.destination_port)
    return f"no service of this node takes {packet.protocol} {where}: the packet"


def _records_text(limit: int) -> str:
    return (
        f"once {limit} new flows were recorded in a second (new_records), one more is not, and "
        "goes where flows go that are older than the change"
    )


def _service_text(packet: Packet, key: ServiceKey, service: ServiceEntry, pool: PoolEntry) -> str:
    if packet.is_icmp:
        return (
            f"an echo request to {packet.destination} goes the way of its first service, "
            f"{service.name}, of pool {pool.name} (echo: forward)"
        )
    where = endpoint(packet.destination, packet.destination_port)
    text = f"{packet.protocol} {where} is service {service.name}, of pool {pool.name}"
    if key.port == 0 and packet.destination_port != 0:
        return f"{text}: it takes any port, and none has port {packet.destination_port} alone"
    return text


def _age(then: int, now: int) -> int:
    """Whole seconds; 0 where a CPU has read the clock later than we."""
    return seconds(max(0, now - then))


def _slot(slot: _steer.Slot, backends: dict[int, BackendEntry], now: int) -> dict[str, Any]:
    return {
        "number": slot.number,
        "state": "tracked" if slot.tracked else "settled",
        "current": _address(backends, slot.current),
        "previous": _address(backends, slot.previous),
        "tracked_seconds": _age(slot.tracked, now) if slot.tracked else None,
    }


def _address(backends: dict[int, BackendEntry], index: int) -> str | None:
    return backends[index].address if index in backends else None


def _family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"
