# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""CPUs and interrupts: which of a NIC's interrupts are its queues', and which CPU gets which.

Private to the collection. Text in, numbers out, but for the functions that name a path of /proc or
/sys. Sources: Documentation/core-api/irq/irq-affinity.rst, and the names that drivers under
drivers/net/ethernet give their interrupts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

NET = Path("/sys/class/net")
ONLINE = Path("/sys/devices/system/cpu/online")
INTERRUPTS = Path("/proc/interrupts")
IRQ = Path("/proc/irq")

_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_ADDRESS = re.compile(r"@pci:.*|@[0-9a-f]{4}:.*", re.IGNORECASE)
_QUEUE = re.compile(
    r"(?:.*[-_.:])?(?:tx-?rx|rx-?tx|rx|tx|input|output|comp|queue|fp|blk|q)[-_.]?(\d+)",
    re.IGNORECASE,
)
"""eth0-TxRx-3, eth0-rx-3, eth0-Tx-Rx-3, virtio1-input.3, mlx5_comp3, gve-ntfy-blk3: queue 3."""


def parse_cpus(text: str) -> tuple[int, ...]:
    """The CPUs of a list as "0-3,8". Raises ValueError."""
    cpus: set[int] = set()
    for part in text.strip().split(",") if text.strip() else ():
        found = _RANGE.fullmatch(part.strip())
        if not found:
            raise ValueError(f"{part.strip()!r} is no CPU and no range of CPUs, as in 0-3,8")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first or last > 65535:
            raise ValueError(f"{part.strip()!r} is no range of CPUs")
        cpus.update(range(first, last + 1))
    return tuple(sorted(cpus))


def write_cpus(cpus: Iterable[int]) -> str:
    """The list of these CPUs, as the kernel writes it."""
    runs: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if runs and runs[-1][1] == cpu - 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def parse_mask(text: str) -> tuple[int, ...]:
    """The CPUs of a mask as "ff,00000001": words of 32 CPUs, the last for the first of them."""
    bits = int("".join(word.rjust(8, "0") for word in text.strip().split(",")), 16)
    return tuple(cpu for cpu in range(bits.bit_length()) if bits >> cpu & 1)


def online() -> tuple[int, ...]:
    return parse_cpus(ONLINE.read_text(encoding="ascii"))


def nearest(interface: str, cpus: Sequence[int]) -> list[int]:
    """These CPUs, those of the NIC's own memory node first."""
    try:
        local = set(parse_cpus((NET / interface / "device/local_cpulist").read_text("ascii")))
    except OSError:  # not of PCI
        local = set()
    return [*(cpu for cpu in cpus if cpu in local), *(cpu for cpu in cpus if cpu not in local)]


def parse_interrupts(text: str) -> dict[int, str]:
    """Names of the numbered interrupts in /proc/interrupts."""
    found = {}
    for line in text.splitlines()[1:]:
        number, _colon, rest = line.strip().partition(":")
        words = rest.split()
        if number.isdecimal() and words:
            found[int(number)] = words[-1]
    return found


def queue_of(name: str, interface: str) -> int | None:
    """The queue whose interrupt has this name; None when it is no queue's."""
    name = _ADDRESS.sub("", name)
    own = re.fullmatch(re.escape(interface) + r"-(\d+)", name)
    found = own or _QUEUE.fullmatch(name)
    return int(found[1]) if found else None


def spread(
    names: Mapping[int, str], numbers: Iterable[int], interface: str, cpus: Sequence[int]
) -> dict[int, int]:
    """A CPU for each of these interrupts that is a queue's: queue 0 the first one, and so on.

    Where a queue has an interrupt for receiving and one for sending, both get the same.
    """
    own = {number: queue_of(names.get(number, ""), interface) for number in numbers}
    return {number: cpus[queue % len(cpus)] for number, queue in own.items() if queue is not None}


def device_interrupts(interface: str) -> list[int]:
    """Numbers of the interrupts of the NIC; of virtio they are its PCI device's."""
    device = (NET / interface / "device").resolve()
    for path in (device, device.parent):
        if (path / "msi_irqs").is_dir():
            return sorted(int(entry.name) for entry in (path / "msi_irqs").iterdir())
    return []


def queue_cpus(interface: str, cpus: Sequence[int]) -> dict[int, int]:
    """As `spread`, of the interrupts that the interface has now."""
    names = parse_interrupts(INTERRUPTS.read_text(encoding="ascii", errors="replace"))
    return spread(names, device_interrupts(interface), interface, nearest(interface, cpus))


def affinity(number: int) -> tuple[int, ...]:
    """The CPUs that may take this interrupt."""
    return parse_cpus((IRQ / str(number) / "smp_affinity_list").read_text(encoding="ascii"))


def set_affinity(number: int, cpus: Iterable[int]) -> None:
    path = IRQ / str(number) / "smp_affinity_list"
    path.write_text(write_cpus(cpus), encoding="ascii")


def default_affinity() -> tuple[int, ...]:
    """What interrupts get that nobody sets."""
    return parse_mask((IRQ / "default_smp_affinity").read_text(encoding="ascii"))
