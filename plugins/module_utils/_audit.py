# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a fleet, from what was seen on each host.

Private to the collection; pure functions. What was seen are the results of modules that only look,
or ran in check mode, as Ansible registers them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.l4lb.xdp.plugins.module_utils._reader import few

Seen = Mapping[str, Any]

SITE = "run l4lb.xdp.site"
FULL = 80.0
"""Per cent of a map's room from which on it counts as nearly full."""

_ROOM = {"services": "l4lb_max_services", "pools": "l4lb_max_pools"}
_ROOM["backends"] = "l4lb_max_backends"


@dataclass(frozen=True)
class Finding:
    """wrong: the fleet is not as inventory says, or about to fail; else it is to be known."""

    host: str
    subject: str
    text: str
    remedy: str = ""
    wrong: bool = True

    def __str__(self) -> str:
        mark = "WRONG" if self.wrong else "note"
        remedy = f" ({self.remedy})" if self.remedy else ""
        return f"{mark}  {self.host}  {self.subject}: {self.text}{remedy}"


def judge(nodes: Mapping[str, Seen], real_servers: Mapping[str, Seen]) -> list[Finding]:
    """All findings, those of the fleet first. An empty mapping is a host that was not reached."""
    found = list(_fleet(nodes))
    for host, seen in sorted(nodes.items()):
        found += _node(host, seen) if seen else [_unreached(host)]
    for host, seen in sorted(real_servers.items()):
        found += _real_server(host, seen) if seen else [_unreached(host)]
    return found


def report(nodes: Mapping[str, Seen], findings: Sequence[Finding]) -> list[str]:
    """A line for each node, and one for each finding, the wrong ones first."""
    lines = [_summary(host, seen) for host, seen in sorted(nodes.items()) if seen]
    ordered = sorted(findings, key=lambda finding: not finding.wrong)
    wrong = sum(finding.wrong for finding in findings)
    return [*lines, *map(str, ordered), f"{wrong} wrong, {len(findings) - wrong} to be known"]


def as_data(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """For JSON."""
    return [asdict(finding) for finding in findings]


def _unreached(host: str) -> Finding:
    return Finding(host, "host", "was not reached, or could not be looked at")


def _summary(host: str, seen: Seen) -> str:
    info, node = seen["info"], seen["node"].get("node", {})
    if info.get("failed"):
        return f"{host}: no balancer"
    program, flows = info["program"], info["flow_tables"]
    used = ", ".join(f"{each['entries']} of {each['size']} {name}" for name, each in flows.items())
    return ", ".join(
        [
            f"{host}: release {program['version']}",
            f"program {program['tag']}",
            f"layout {info['settings']['schema_version']}",
            f"fingerprint {info['fingerprint']}",
            node.get("state", "?"),
            f"{len(node.get('announced', ()))} addresses announced",
            f"flows {used}",
            f"kept {', '.join(seen['kept']) or 'no release'}",
        ]
    )


# --- the fleet ---


def _fleet(nodes: Mapping[str, Seen]) -> Iterator[Finding]:
    told = {h: s["info"] for h, s in nodes.items() if s and not s["info"].get("failed")}
    rollout = "finish the rollout with l4lb.xdp.upgrade"
    steering = "some flows go elsewhere; see the nodes' own findings, and run l4lb.xdp.services"
    values = (
        ("program", rollout, {h: i["program"]["tag"] for h, i in told.items()}),
        ("layout", rollout, {h: i["settings"]["schema_version"] for h, i in told.items()}),
        ("steering", steering, {h: i["steering"] for h, i in told.items()}),
    )
    for what, remedy, each in values:
        if len(set(each.values())) > 1:
            yield Finding("fleet", what, f"differs: {_sides(each)}", remedy)
    if nodes and not any(_announces(seen) for seen in nodes.values() if seen):
        yield Finding("fleet", "announcements", "no node announces anything")


def _sides(values: Mapping[str, Any]) -> str:
    sides: dict[Any, list[str]] = {}
    for host, value in sorted(values.items()):
        sides.setdefault(value, []).append(host)
    return " against ".join(f"{', '.join(hosts)} ({value})" for value, hosts in sides.items())


def _announces(seen: Seen) -> bool:
    return bool(seen["node"].get("node", {}).get("announced"))


# --- a node ---


def _node(host: str, seen: Seen) -> list[Finding]:
    info = seen["info"]
    if info.get("failed"):
        return [Finding(host, "balancer", str(info.get("msg")), SITE)]
    return [
        *_drift(host, "program", seen["program"], SITE),
        *_drift(host, "tuning", seen["tuning"], SITE),
        *_drift(host, "services", seen["services"], "run l4lb.xdp.services"),
        *_overrides(host, seen["services"]),
        *_release(host, seen),
        *_attached(host, info["program"], seen["interfaces"]),
        *_announced(host, seen["node"]),
        *_capacity(host, info, seen["services"]),
        *_settings(host, seen["sysctls"]),
        *_units(host, seen["units"]),
    ]


def _drift(host: str, subject: str, result: Seen, remedy: str) -> Iterator[Finding]:
    if result.get("failed"):
        yield Finding(host, subject, f"cannot be compared: {result.get('msg')}")
    elif result.get("changed"):
        lines = _differences(result)
        said = f"differs from inventory: {few(lines, 4)}" if lines else "differs from inventory"
        yield Finding(host, subject, said, remedy)


def _differences(result: Seen) -> list[str]:
    diffs = result.get("diff") or []
    diffs = [diffs] if isinstance(diffs, Mapping) else diffs
    lines = []
    for diff in diffs:
        for sign, side in (("has ", "before"), ("wants ", "after")):
            lines += [f"{sign}'{line.strip()}'" for line in str(diff.get(side, "")).splitlines()]
    return lines


def _overrides(host: str, result: Seen) -> Iterator[Finding]:
    for line in result.get("plan", {}).get("overrides", ()):
        yield Finding(host, "backend", line, "l4lb.xdp.undrain_backend gives it back", wrong=False)


def _release(host: str, seen: Seen) -> Iterator[Finding]:
    if seen["differs"]:
        text = f"other files than this checkout's: {few(seen['differs'])}"
        yield Finding(
            host, "release", text, "run l4lb.xdp.upgrade, or this from the release it has"
        )
    if not seen["kept"]:
        text = "none is kept, so l4lb.xdp.rollback has nothing to go back to"
        yield Finding(host, "release", text, wrong=False)


def _attached(host: str, program: Seen, interfaces: Collection[str]) -> Iterator[Finding]:
    runs = {each["interface"] for each in program["interfaces"]}
    missing = [name for name in interfaces if name not in runs]
    if missing:
        text = f"no balancer runs on {', '.join(missing)}"
        yield Finding(host, "program", text, "systemctl restart l4lb-restore, or l4lb.xdp.site")


def _announced(host: str, result: Seen) -> Iterator[Finding]:
    if result.get("failed"):
        yield Finding(host, "announcements", str(result.get("msg")))
        return
    node = result["node"]
    if not node["agent"]:
        yield Finding(host, "agent", "none is at work", "systemctl status l4lb-agent")
    if node["state"] != "announcing":
        text = f"the node is {node['state']}"
        yield Finding(host, "announcements", text, "l4lb.xdp.undrain brings it back", wrong=False)
        return
    for reason in (*node["reasons"], *node["problems"]):
        yield Finding(host, "announcements", reason)
    for address, reasons in sorted(node["withheld"].items()):
        yield Finding(host, "announcements", f"{address} is withheld: {'; '.join(reasons)}")


def _capacity(host: str, info: Seen, services: Seen) -> Iterator[Finding]:
    for family, table in info["flow_tables"].items():
        share = 100 * table["entries"] / table["size"]
        if share >= FULL:
            text = f"{share:.0f} % of the {family} flow table is in use"
            yield Finding(
                host, "capacity", text, "raise l4lb_max_flows; flows silent longest go first"
            )
    sizes = info["settings"]["sizes"]
    for what, held in services.get("plan", {}).get("holds", {}).items():
        share = 100 * held / sizes[what]
        if share >= FULL:
            text = f"{held} of {sizes[what]} {what} are in use"
            yield Finding(host, "capacity", text, f"raise {_ROOM[what]}")


# --- any host ---


def _settings(host: str, wrong: Collection[str]) -> Iterator[Finding]:
    for line in wrong:
        yield Finding(host, "setting", f"{line} is not as this collection sets it", SITE)


def _units(host: str, units: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """Of each: how it is, and whether it will be after a boot."""
    for unit, (active, enabled) in units.items():
        if active != "active":
            yield Finding(host, "unit", f"{unit} is {active}", f"systemctl status {unit}")
        if enabled != "enabled":
            text = f"{unit} is {enabled or 'not installed'}, so it is not started at the next boot"
            yield Finding(host, "unit", text, SITE)


# --- a real server ---


def _real_server(host: str, seen: Seen) -> list[Finding]:
    found = [*_drift(host, "decapsulation", seen["decap"], SITE)]
    found += _drift(host, "rules", seen["rules"], "run l4lb.xdp.services")
    if not seen["rules_loaded"] and not seen["rules"].get("changed"):
        text = "the kernel has not those of the file"
        found.append(Finding(host, "rules", text, "systemctl reload l4lb-nftables"))
    addresses = seen["addresses"]
    if addresses.get("failed"):
        found.append(Finding(host, "addresses", f"cannot be compared: {addresses.get('msg')}"))
    else:
        for key, text in (("added", "is missing"), ("removed", "is not wanted any more")):
            for address in addresses.get(key, ()):
                found.append(
                    Finding(host, "addresses", f"{address} {text}", "run l4lb.xdp.services")
                )
    return [*found, *_settings(host, seen["sysctls"]), *_units(host, seen["units"])]
