# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What preflight makes of what it sees: every status of every check, without a kernel."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils import _preflight
from ansible_collections.l4lb.xdp.plugins.module_utils import _preflight_host as host
from ansible_collections.l4lb.xdp.plugins.module_utils import _preflight_links as links
from ansible_collections.l4lb.xdp.plugins.module_utils import _preflight_memory as memory
from ansible_collections.l4lb.xdp.plugins.module_utils._module import finish
from ansible_collections.l4lb.xdp.plugins.module_utils._preflight_check import (
    STATUSES,
    Check,
    Environment,
    some,
)
from ansible_collections.l4lb.xdp.plugins.module_utils._schema import Sizes

METAL = Environment()
VIRTUAL = Environment(virtualization="kvm")
CONTAINER = Environment(container="systemd-nspawn")

CPUINFO = "processor : 0\nflags\t\t: fpu hypervisor sse\n"
METAL_CPUINFO = "processor : 0\nflags\t\t: fpu sse\n"
DMI = "/sys/class/dmi/id/"
CLOCKS = "/sys/devices/system/clocksource/clocksource0/available_clocksource"


# --- the environment ---


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({}, "none"),
        ({"/proc/cpuinfo": METAL_CPUINFO, f"{DMI}sys_vendor": "Amazon EC2"}, "none"),
        ({"/proc/cpuinfo": CPUINFO, f"{DMI}sys_vendor": "Amazon EC2"}, "amazon"),
        ({"/proc/cpuinfo": CPUINFO, f"{DMI}product_name": "KVM\n"}, "kvm"),
        ({"/proc/cpuinfo": CPUINFO, f"{DMI}sys_vendor": "QEMU\n"}, "qemu"),
        ({"/proc/cpuinfo": CPUINFO, CLOCKS: "tsc kvm-clock \n"}, "kvm"),
        ({"/proc/cpuinfo": CPUINFO, "/sys/hypervisor/type": "xen\n"}, "xen"),
        ({"/proc/cpuinfo": CPUINFO}, "other"),
        ({"/proc/device-tree/hypervisor/compatible": "linux,kvm\0"}, "kvm"),
    ],
)
def test_virtual_machine_is_recognised(files: dict[str, str], kind: str) -> None:
    assert host.recognise(files.get) == Environment(kind, "none")


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"/run/systemd/container": "systemd-nspawn\n"}, "systemd-nspawn"),
        ({"/proc/1/environ": "PATH=/bin\0container=lxc\0"}, "lxc"),
        ({"/.dockerenv": ""}, "docker"),
        ({"/run/.containerenv": ""}, "podman"),
        ({"/proc/1/cgroup": "0::/kubepods/besteffort/pod1\n"}, "kubernetes"),
        ({"/proc/1/cgroup": "0::/init.scope\n", "/proc/1/environ": "HOME=/\0"}, "none"),
    ],
)
def test_container_is_recognised(files: dict[str, str], kind: str) -> None:
    assert host.recognise(files.get) == Environment("none", kind)


# --- the host ---


@pytest.mark.parametrize(
    ("release", "status"),
    [
        ("6.1.0-25-amd64", "ok"),
        ("6.18.44", "ok"),
        ("5.15.0-91-generic", "warning"),
        ("5.14.21", "failed"),
        ("4.19.0", "failed"),
        ("next", "unknown"),
    ],
)
def test_kernel(release: str, status: str) -> None:
    assert host.judge_kernel(release, METAL).status == status


def test_kernel_of_a_container_is_its_hosts() -> None:
    assert "container's host" in host.judge_kernel("5.4.0", CONTAINER).remedy


@pytest.mark.parametrize(
    ("library", "status"),
    [
        (host.Library("bcc", "0.26.0+ds-1"), "ok"),
        (host.Library("bcc", "0.31.0"), "ok"),
        (host.Library("bcc", ""), "ok"),
        (host.Library("pyroute2", "0.7.2"), "ok"),
        (host.Library("pyroute2", "0.6.9"), "warning"),
        (host.Library("bcc", "0.18.0", lacks=("bpf_xdp_attach",)), "failed"),
        (host.Library("netaddr", missing="No module named 'netaddr'"), "skipped"),
    ],
)
def test_library(library: host.Library, status: str) -> None:
    (check,) = host.judge_libraries([library])
    assert (check.name, check.subject, check.status) == ("libraries", library.name, status)


def test_headers_may_be_missing_until_the_role_was_there() -> None:
    assert host.judge_headers("", True, METAL).status == "ok"
    assert host.judge_headers("no kernel headers", False, METAL).status == "skipped"
    assert host.judge_headers("no kernel headers", True, METAL).status == "warning"
    assert "host's kernel" in host.judge_headers("none", True, CONTAINER).remedy


@pytest.mark.parametrize(
    ("rights", "environment", "status", "remedy"),
    [
        (host.Rights(True, True, ""), METAL, "ok", ""),
        (host.Rights(True, True, None), METAL, "skipped", ""),
        (host.Rights(False, False, None), CONTAINER, "failed", "become"),
        (host.Rights(True, False, None), CONTAINER, "failed", "the container both"),
        (host.Rights(True, True, "Operation not permitted"), CONTAINER, "failed", "nspawn"),
        (host.Rights(True, True, "Operation not permitted"), METAL, "failed", "security module"),
    ],
)
def test_rights(rights: host.Rights, environment: Environment, status: str, remedy: str) -> None:
    check = host.judge_rights(rights, environment)
    assert check.status == status
    assert remedy in check.remedy


def test_bpffs_may_be_missing_until_the_role_was_there() -> None:
    assert host.judge_bpffs("/run/l4lb/bpf", True, True, METAL).status == "ok"
    assert host.judge_bpffs("/run/l4lb/bpf", False, False, METAL).status == "skipped"
    assert host.judge_bpffs("/run/l4lb/bpf", False, True, METAL).status == "warning"
    assert "container" in host.judge_bpffs("/run/l4lb/bpf", False, True, CONTAINER).remedy


@pytest.mark.parametrize(
    ("synchronised", "status"), [(True, "ok"), (False, "warning"), (None, "unknown")]
)
def test_clock(synchronised: bool | None, status: str) -> None:
    assert host.judge_clock(synchronised, VIRTUAL).status == status


def test_clock_of_a_container_is_its_hosts() -> None:
    check = host.judge_clock(False, CONTAINER)
    assert "container's host" in check.remedy


# --- memory ---


def test_ring_of_the_usual_size_takes_half_a_mebibyte() -> None:
    assert memory.ring_bytes(65537) == pytest.approx(524_608, rel=0.02)


def test_map_grows_with_what_it_holds() -> None:
    small, large = Sizes(flows=1000), Sizes(flows=1_000_000)
    assert memory.maps_bytes(large, 2) - memory.maps_bytes(small, 2) == pytest.approx(
        201_000_000, rel=0.01
    )
    assert memory.maps_bytes(small, 64) > memory.maps_bytes(small, 2)


@pytest.mark.parametrize(
    ("have", "status"),
    [
        (memory.Memory(4 << 30), "ok"),
        (memory.Memory(500 << 20), "warning"),
        (memory.Memory(300 << 20), "failed"),
        (memory.Memory(4 << 30, limit=300 << 20), "failed"),
        (memory.Memory(500 << 20, maps=True), "ok"),
        (memory.Memory(100 << 20, maps=True), "failed"),
        (memory.Memory(100 << 20, maps=True, rings=300), "ok"),
    ],
)
def test_memory(have: memory.Memory, status: str) -> None:
    check = memory.judge_memory(Sizes(), 300, have)
    assert check.status == status, check


def test_limit_of_the_control_group_is_named() -> None:
    check = memory.judge_memory(Sizes(), 300, memory.Memory(4 << 30, limit=300 << 20))
    assert "control group" in check.found
    assert "control group" in check.remedy


# --- interfaces ---


def link(driver: str | None = "ice", **fields: Any) -> links.Link:
    mtu = fields.pop("mtu", 1600)
    return links.Link("eth0", driver=driver, mtu=mtu, mtu_limited=mtu, **fields)


OURS = links.Attached("native", 7, "balancer", ours=True)
FOREIGN = links.Attached("native", 8, "other", ours=False)


@pytest.mark.parametrize(
    ("seen", "mode", "status"),
    [
        (link(xdp_features=links.XDP_BASIC), "native", "ok"),
        (link(xdp_features=0), "native", "failed"),
        (link(xdp_features=0), "generic", "ok"),
        (link(xdp_features=0, attached=OURS), "native", "ok"),
        (link("ice"), "native", "ok"),
        (link("e1000"), "native", "failed"),
        (link("e1000"), "generic", "ok"),
        (link("rare"), "native", "unknown"),
        (link(None), "native", "unknown"),
    ],
)
def test_native_xdp(seen: links.Link, mode: str, status: str) -> None:
    check = links.judge_native(seen, mode)
    assert check.status == status
    assert ("generic" in check.remedy) == (status in ("failed", "unknown"))


@pytest.mark.parametrize(
    ("driver", "remedy"), [("ena", "half of its queues"), ("veth", "receive queues")]
)
def test_driver_without_queues_for_xdp_is_told_to_get_some(driver: str, remedy: str) -> None:
    assert remedy in links.judge_native(link(driver, xdp_features=0), "native").remedy


@pytest.mark.parametrize(
    ("seen", "mode", "attached", "status"),
    [
        (link("ice", mtu=3046), "native", False, "ok"),
        (link("ice", mtu=3047), "native", False, "failed"),
        (link("ice", mtu=9000), "generic", False, "ok"),
        (link("ice", mtu=9000), "native", True, "ok"),
        (link("igc", mtu=1520), "native", False, "failed"),
        (link("rare", mtu=1520), "native", False, "ok"),
        (link("rare", mtu=9000), "native", False, "unknown"),
        (link("ice", mtu=None), "native", False, "unknown"),
        (link("ice", mtu=None, asked=False), "native", False, "skipped"),
    ],
)
def test_mtu_that_the_driver_takes(
    seen: links.Link, mode: str, attached: bool, status: str
) -> None:
    assert links.judge_xdp_mtu(seen, mode, attached).status == status


def test_mtu_of_the_peer_counts_for_veth() -> None:
    check = links.judge_xdp_mtu(link("veth", mtu=9000), "native", False)
    assert check.status == "failed"
    assert "peer" in check.found
    assert "peer" in check.remedy


@pytest.mark.parametrize(
    ("seen", "environment", "status"),
    [
        (link(channels=links.Channels(8, 64)), METAL, "ok"),
        (link(channels=links.Channels(4, 64)), METAL, "warning"),
        (link(channels=links.Channels(4, 4)), METAL, "ok"),
        (link("virtio_net", channels=links.Channels(4, 4)), VIRTUAL, "warning"),
        (link("ena", channels=links.Channels(8, 8)), VIRTUAL, "warning"),
        (link("ena", channels=links.Channels(8, 16)), VIRTUAL, "ok"),
        (link("veth", channels=links.Channels(1, 1)), CONTAINER, "ok"),
        (link(), METAL, "unknown"),
    ],
)
def test_queues_for_eight_cpus(seen: links.Link, environment: Environment, status: str) -> None:
    assert links.judge_queues(seen, "native", 8, environment).status == status


def test_remedy_of_queues_is_a_command_that_fits_the_driver() -> None:
    def remedy(driver: str, used: int, most: int) -> str:
        seen = link(driver, channels=links.Channels(used, most))
        return links.judge_queues(seen, "native", 8, VIRTUAL).remedy

    assert "ethtool -L eth0 combined 8" in remedy("ice", 4, 64)
    assert "ethtool -L eth0 combined 4" in remedy("ena", 8, 8)
    assert "hypervisor" in remedy("virtio_net", 4, 4)


@pytest.mark.parametrize(
    ("seen", "mode", "status"),
    [
        (link(offloads={"rx-lro": False, "rx-gro-hw": False}), "native", "ok"),
        (link(offloads={}), "native", "ok"),
        (link(offloads={"rx-lro": True}), "native", "warning"),
        (link(offloads={"rx-lro": True}), "generic", "ok"),
        (link("virtio_net", offloads={"rx-gro-hw": True}), "native", "ok"),
        (link("virtio_net", offloads={"rx-gro-hw": True}, attached=OURS), "native", "warning"),
        (link(offloads=None), "native", "unknown"),
        (link(offloads=None, asked=False), "native", "skipped"),
    ],
)
def test_offloads(seen: links.Link, mode: str, status: str) -> None:
    assert links.judge_offloads(seen, mode).status == status


def test_remedy_of_offloads_is_one_command() -> None:
    seen = link(offloads={"rx-lro": True, "rx-gro-hw": True})
    remedy = links.judge_offloads(seen, "native").remedy
    assert remedy == "ethtool -K eth0 lro off rx-gro-hw off"


ADDRESSES = 1 << 4 | 1 << 5
PORTS = 1 << 6 | 1 << 7


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"tcp4": ADDRESSES | PORTS, "udp4": ADDRESSES | PORTS}, "ok"),
        ({"tcp4": ADDRESSES | PORTS, "udp4": ADDRESSES}, "warning"),
        ({"tcp4": 0, "udp4": ADDRESSES | PORTS}, "warning"),
        ({"tcp4": None, "udp4": None}, "unknown"),
        ({"tcp4": ADDRESSES | PORTS, "udp4": ADDRESSES | PORTS, "udp6": 0}, "ok"),
    ],
)
def test_hash_fields_of_the_services_flows(fields: dict[str, int | None], status: str) -> None:
    assert links.judge_hash_fields(link(hash_fields=fields), ["tcp4", "udp4"]).status == status


@pytest.mark.parametrize(
    "seen", [link("veth"), link(channels=links.Channels(1, 8), hash_fields={"tcp4": 0})]
)
def test_hash_fields_are_of_no_interest_with_one_queue_or_none(seen: links.Link) -> None:
    assert links.judge_hash_fields(seen, ["tcp4"]).status == "ok"


@pytest.mark.parametrize(
    ("attached", "replace", "status"),
    [
        (None, False, "ok"),
        (OURS, False, "ok"),
        (FOREIGN, False, "failed"),
        (FOREIGN, True, "ok"),
        (links.Attached("native", 9), False, "skipped"),
    ],
)
def test_foreign_program(attached: links.Attached | None, replace: bool, status: str) -> None:
    assert links.judge_foreign(link(attached=attached), replace).status == status


def test_members_of_a_bond_are_looked_at_each() -> None:
    members = tuple(
        links.Link(name, driver="mlx5_core", mtu_limited=1600, offloads={"rx-lro": lro})
        for name, lro in (("eth1", False), ("eth2", True))
    )
    bond = links.Link("bond0", driver="bonding", xdp_features=links.XDP_BASIC, members=members)
    checks = links.judge_link(bond, "native", 2, ["tcp4"], METAL)
    assert {check.subject for check in checks if check.name == "native_xdp"} == {
        "bond0",
        "eth1",
        "eth2",
    }
    offloads = {check.subject: check.status for check in checks if check.name == "offloads"}
    assert offloads == {"eth1": "ok", "eth2": "warning"}


# --- the report ---


def outcome_of(monkeypatch: pytest.MonkeyPatch, fail_on: str, *statuses: str) -> dict[str, Any]:
    """The module's result when its checks are these."""
    checks = [Check(f"c{i}", "eth0", s, "this", "do that") for i, s in enumerate(statuses)]
    monkeypatch.setattr(_preflight, "_checks", lambda *_given: checks)
    monkeypatch.setattr(_preflight, "_asked", lambda _arguments: None)
    result: dict[str, Any] = {"warned": []}

    class Module:
        def exit_json(self, **data: Any) -> None:
            result.update(data)

        def fail_json(self, **data: Any) -> None:
            result.update(data, failed=True)

        def warn(self, text: str) -> None:
            result["warned"].append(text)

    finish(Module(), lambda: _preflight.preflight({"fail_on": fail_on}), "node")
    return result


@pytest.mark.parametrize(
    ("fail_on", "statuses", "fails"),
    [
        ("failed", ("ok", "warning", "skipped", "unknown"), False),
        ("failed", ("ok", "failed"), True),
        ("warning", ("ok", "warning"), True),
        ("warning", ("ok", "skipped", "unknown"), False),
        ("never", ("failed", "warning"), False),
    ],
)
def test_fails_when_told(
    monkeypatch: pytest.MonkeyPatch, fail_on: str, statuses: tuple[str, ...], fails: bool
) -> None:
    assert outcome_of(monkeypatch, fail_on, *statuses).get("failed", False) == fails


def test_failure_says_what_to_do_a_line_each_and_carries_all_checks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result = outcome_of(monkeypatch, "failed", "failed", "ok", "warning", "failed")
    assert result["msg"] == "c0 eth0: this; do that\nc3 eth0: this; do that"
    assert result["warned"] == ["c2 eth0: this; do that"]
    assert [check["status"] for check in result["checks"]] == ["failed", "ok", "warning", "failed"]
    assert result["summary"] == {"ok": 1, "warning": 1, "failed": 2, "skipped": 0, "unknown": 0}
    assert set(result["summary"]) == set(STATUSES)


def test_success_warns_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    result = outcome_of(monkeypatch, "failed", "warning", "ok")
    assert not result["changed"]
    assert result["warned"] == ["c0 eth0: this; do that"]


def test_long_list_is_cut_and_counted() -> None:
    assert some(["a", "b"]) == "a, b"
    assert some([str(number) for number in range(9000)]) == "0, 1, 2, 3, 4 and 8995 more"
