#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: explain
short_description: Where a node sends a packet, and why
version_added: 0.1.0
description:
  - Follows one packet through the balancer of a node, by the kernel's live maps, routes and
    neighbours, and says what becomes of it at each step. No packet is sent, and nothing changes,
    neither counters nor recorded flows.
  - The answer is for this node and this moment. Another node may have recorded the flow elsewhere,
    and a flow is recorded by its packets.
author:
  - The l4lb.xdp authors (@l4lb)
requirements:
  - bcc (on Debian, C(python3-bpfcc) with C(ansible_python_interpreter=/usr/bin/python3))
  - pyroute2 >= 0.7.2 and netaddr
  - a node prepared by M(l4lb.xdp.program)
extends_documentation_fragment:
  - l4lb.xdp.attributes.info_module
  - l4lb.xdp.paths
options:
  source_address:
    description: The client's address, IPv4 or IPv6.
    type: str
    required: true
  destination_address:
    description: The address that the client connects to, of the same family.
    type: str
    required: true
  protocol:
    description:
      - C(tcp), C(udp), C(sctp), or any other protocol's name or number, which is not balanced.
    type: str
    required: true
  source_port:
    description: The client's port. Required for TCP, UDP and SCTP.
    type: int
  destination_port:
    description: The port that the client connects to. Required for TCP, UDP and SCTP.
    type: int
  opens:
    description:
      - Whether the packet opens a connection, a TCP SYN or an SCTP INIT. Else it is one of a
        connection.
    type: bool
    default: false
  connection_id:
    description:
      - The destination connection id of a QUIC packet, in hexadecimal digits, for pools that have
        C(quic). Only of one that a server issued, so not of Initial and 0-RTT packets, which go by
        hash.
    type: str
  interface:
    description:
      - The interface that the packet comes in by. By default the first one that runs the balancer.
    type: str
notes:
  - Taken to be a whole packet that fits, whatever the MTU on its way and the room that the driver
    leaves for the outer header. ICMP is taken to be an echo request.
"""

EXAMPLES = r"""
- name: Ask where a client's connection goes
  l4lb.xdp.explain:
    source_address: 198.51.100.2
    source_port: 40000
    destination_address: 203.0.113.10
    destination_port: 80
    protocol: tcp
  register: way

- name: Show why
  ansible.builtin.debug:
    var: way.why

# The same from the command line:
# ansible node1 -m l4lb.xdp.explain -a 'protocol=tcp source_address=198.51.100.2 source_port=40000
#   destination_address=203.0.113.10 destination_port=80'
"""

RETURN = r"""
why:
  description: The packet's way step by step, in words.
  returned: success
  type: list
  elements: str
  sample:
    - tcp 203.0.113.10:80 is service web, of pool web
    - its hash 7bc3aab5b0bdc1f5 picks slot 31684 of 65537
    - "slot 31684 is tracked for 12 s: it points to 192.0.2.73, before that to 192.0.2.71"
    - "the flow is recorded on 192.0.2.71, seen 3 s ago: it stays there"
    - a connection that opens now (SYN) goes to 192.0.2.73
    - "192.0.2.71 is reached by eth0 through 192.0.2.1 (02:00:00:00:00:01, reachable): the packet is
      sent out of the interface it came in by"
verdict:
  description:
    - What becomes of the packet, in the words that the counters of M(l4lb.xdp.info) have.
    - V(pass_foreign) (to no service's address, to the kernel untouched), V(drop_unserved) (to one,
      but to no service), V(answered_echo) (by the node itself), V(sent) (encapsulated, out of the
      interface it came in by), V(redirected) (out of another one), V(to_kernel) (encapsulated, and
      the kernel has to go on), V(drop_no_backend), V(drop_no_source) (the node has no address of
      the backend's family) or V(drop_no_route).
  returned: success
  type: str
  sample: sent
packet:
  description: The packet in the words of the options.
  returned: success
  type: dict
  sample:
    source_address: 198.51.100.2
    destination_address: 203.0.113.10
    protocol: tcp
    source_port: 40000
    destination_port: 80
    opens: false
    connection_id: null
    interface: eth0
service:
  description: Its service; null when it is for none. Port C(0) is any port.
  returned: success
  type: dict
  sample: {name: web, address: 203.0.113.10, port: 80, protocol: tcp}
pool:
  description: The pool of the service; null without service.
  returned: success
  type: dict
  sample: {name: web, tracking: adaptive, algorithm: maglev, identity: five_tuple, forwarding: ipip}
hash:
  description: The flow's hash, 64 bits in hexadecimal; null without service.
  returned: success
  type: str
  sample: 7bc3aab5b0bdc1f5
slot:
  description:
    - The slot that the hash picks; null without service. C(state) is C(settled) or C(tracked);
      C(current) and C(previous) are addresses of backends or null.
  returned: success
  type: dict
  sample:
    number: 31684
    state: tracked
    current: 192.0.2.73
    previous: 192.0.2.71
    tracked_seconds: 12
flow:
  description:
    - The flow table's record of the flow, or null. C(believed) says whether it decides.
  returned: success
  type: dict
  sample: {backend: 192.0.2.71, seen_seconds_ago: 3, believed: true}
backend:
  description: The backend that the packet is for, or null.
  returned: success
  type: dict
  sample: {address: 192.0.2.71, weight: 100, state: draining, health: up, pool: web}
tunnel:
  description:
    - The outer header, or null without backend. C(source) is the flow's of the prefix where sources
      are spread over one; null when the node has no address of that family. C(source_port) and
      C(destination_port) are there for C(kind=gue).
  returned: success
  type: dict
  sample: {kind: ipip, source: 192.0.2.11, destination: 192.0.2.71}
nexthop:
  description:
    - Where the encapsulated packet goes; null where no route leads there. C(mac) is null while the
      neighbour is unknown, C(via) is null where the backend itself is the neighbour. C(neighbour)
      is its state in the kernel, C(none) without entry.
  returned: success
  type: dict
  sample: {interface: eth0, mac: "02:00:00:00:00:01", via: 192.0.2.1, neighbour: reachable}
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.l4lb.xdp.plugins.module_utils._explain import explain
from ansible_collections.l4lb.xdp.plugins.module_utils._module import PATHS, finish
from ansible_collections.l4lb.xdp.plugins.module_utils._outcome import Outcome
from ansible_collections.l4lb.xdp.plugins.module_utils._packet import parse

SPEC = {
    "source_address": {"type": "str", "required": True},
    "destination_address": {"type": "str", "required": True},
    "protocol": {"type": "str", "required": True},
    "source_port": {"type": "int"},
    "destination_port": {"type": "int"},
    "opens": {"type": "bool", "default": False},
    "connection_id": {"type": "str"},
    "interface": {"type": "str"},
    **PATHS,
}


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    given = dict(module.params)
    pins, source = Path(given.pop("pins")), Path(given.pop("source"))
    interface = given.pop("interface")
    finish(
        module,
        lambda: Outcome(False, data=explain(parse(**given), interface, pins, source)),
        "packet",
    )


if __name__ == "__main__":
    main()
