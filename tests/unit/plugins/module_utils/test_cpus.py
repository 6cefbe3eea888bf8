# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""CPU lists, masks of more than 64 CPUs, and interrupts' names as drivers give them."""

from __future__ import annotations

import pytest

from ansible_collections.l4lb.xdp.plugins.module_utils import _cpus

INTERRUPTS = """\
            CPU0       CPU1       CPU2       CPU3
   8:          0          0          0          1  IR-IO-APIC    8-edge      rtc0
  32:       1200          0          0          0  IR-PCI-MSIX-0000:01:00.0    0-edge      enp1s0
  33:          9          0        512          0  IR-PCI-MSI 524289-edge      enp1s0-TxRx-0
  34:          0       4000          0          0  IR-PCI-MSI 524290-edge      enp1s0-TxRx-1
  35:          0          0          7          0  PCI-MSI-edge      mlx5_comp12@pci:0000:81:00.0
 NMI:          1          1          1          1   Non-maskable interrupts
 ERR:          0
"""


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("", ()),
        ("0", (0,)),
        ("0-3,8", (0, 1, 2, 3, 8)),
        ("3,1-2\n", (1, 2, 3)),
        ("62-66,127", (62, 63, 64, 65, 66, 127)),
    ],
)
def test_list_of_cpus(text: str, cpus: tuple[int, ...]) -> None:
    assert _cpus.parse_cpus(text) == cpus
    assert _cpus.parse_cpus(_cpus.write_cpus(cpus)) == cpus


@pytest.mark.parametrize("text", ["a", "1-", "-1", "3-1", "1,,2", "0-99999999", "1 2"])
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        _cpus.parse_cpus(text)


def test_list_is_as_short_as_the_kernels() -> None:
    assert _cpus.write_cpus([9, 3, 2, 1, 64, 65, 200]) == "1-3,9,64-65,200"


@pytest.mark.parametrize(
    ("mask", "cpus"),
    [
        ("f", (0, 1, 2, 3)),
        ("00000001,00000000,80000001", (0, 31, 64)),
        ("1,00000000,00000000,00000000\n", (96,)),
        ("3,ffffffff,ffffffff", tuple(range(66))),
        ("00000000", ()),
    ],
)
def test_mask_of_any_number_of_cpus(mask: str, cpus: tuple[int, ...]) -> None:
    assert _cpus.parse_mask(mask) == cpus


def test_interrupts_are_numbers_with_names() -> None:
    assert _cpus.parse_interrupts(INTERRUPTS) == {
        8: "rtc0",
        32: "enp1s0",
        33: "enp1s0-TxRx-0",
        34: "enp1s0-TxRx-1",
        35: "mlx5_comp12@pci:0000:81:00.0",
    }


@pytest.mark.parametrize(
    ("name", "queue"),
    [
        ("enp1s0-TxRx-3", 3),  # ixgbe, igb, igc, bnxt_en
        ("i40e-enp1s0-TxRx-3", 3),
        ("ice-enp1s0-TxRx-3", 3),
        ("enp1s0-Tx-Rx-3", 3),  # ena
        ("enp1s0-rx-3", 3),
        ("enp1s0-tx-3", 3),
        ("enp1s0-3", 3),  # mlx4_en
        ("virtio1-input.3", 3),
        ("virtio1-output.3", 3),
        ("mlx5_comp3@pci:0000:81:00.0", 3),
        ("gve-ntfy-blk3@pci:0000:00:04.0", 3),
        ("enp1s0", None),
        ("virtio1-config", None),
        ("virtio1-virtqueues", None),
        ("mlx5_async0@pci:0000:81:00.0", None),
        ("ena-mgmnt@pci:0000:00:05.0", None),
        ("ice-0000:01:00.0:misc", None),
        ("i40e-0000:01:00.0:misc", None),
        ("", None),
    ],
)
def test_queue_of_an_interrupt(name: str, queue: int | None) -> None:
    assert _cpus.queue_of(name, "enp1s0") == queue


def test_queues_go_one_to_a_cpu_and_begin_again_when_there_are_more() -> None:
    names = {n: f"enp1s0-TxRx-{n - 33}" for n in range(33, 38)} | {32: "enp1s0", 9: "other-rx-0"}
    spread = _cpus.spread(names, [32, *range(33, 38), 99], "enp1s0", [4, 5, 70])
    assert spread == {33: 4, 34: 5, 35: 70, 36: 4, 37: 5}


def test_receiving_and_sending_of_a_queue_share_a_cpu() -> None:
    names = {40: "virtio0-config", 41: "virtio0-input.0", 42: "virtio0-output.0"}
    names |= {43: "virtio0-input.1", 44: "virtio0-output.1"}
    assert _cpus.spread(names, names, "eth0", [0, 1]) == {41: 0, 42: 0, 43: 1, 44: 1}
