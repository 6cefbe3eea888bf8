#!/usr/bin/python
# SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: What would keep a host from being a node, before anything changes
version_added: 0.1.0
description:
  - Looks at a host, and at what is wanted of it, and reports what would go wrong, each with a
    remedy.
  - Kernel and libraries, kernel headers, rights, memory, clock; of the interfaces native XDP, MTU,
    queues, offloads, hash fields and programs that are not of this collection; service addresses on
    the node itself; routes, neighbours and room for the outer header on the way to each backend.
  - It sends no packet and changes nothing.
  - It runs on a host where nothing is installed yet. What cannot be looked at there is C(skipped).
  - It knows containers, which share kernel and clock with their host, and virtual machines, whose
    interfaces have the queues that the hypervisor gives them.
author:
  - The l4lb.xdp authors (@l4lb)
requirements:
  - nothing; with bcc, pyroute2 and netaddr it sees more (on Debian, C(python3-bpfcc),
    C(python3-pyroute2) and C(python3-netaddr) with C(ansible_python_interpreter=/usr/bin/python3))
extends_documentation_fragment:
  - l4lb.xdp.attributes.info_module
  - l4lb.xdp.paths
  - l4lb.xdp.sizes
options:
  interfaces:
    description: Interfaces that get, or have, the program.
    type: list
    elements: str
    required: true
  mode:
    description: Whether the driver is to run the program, or the kernel's stack.
    type: str
    choices: [native, generic]
    default: native
  replace_foreign:
    description: Whether an XDP program that is not of this collection may be replaced.
    type: bool
    default: false
  source_ipv4:
    description: The node's address in outer IPv4 headers.
    type: str
  source_ipv6:
    description: The node's address in outer IPv6 headers.
    type: str
  source_prefix_ipv4:
    description: What sources of outer IPv4 headers are spread over, as M(l4lb.xdp.program) has it.
    type: str
  source_prefix_ipv6:
    description: What sources of outer IPv6 headers are spread over, as M(l4lb.xdp.program) has it.
    type: str
  pools:
    description:
      - Pools, as M(l4lb.xdp.services) has them. Their number, and the addresses of their backends
        are looked at; mistakes in them are for that module to report.
      - Without them routes, neighbours and MTU are not looked at.
    type: raw
  services:
    description:
      - Services, as M(l4lb.xdp.services) has them. Their addresses and protocols are looked at.
    type: raw
  client_mtu:
    description:
      - Bytes of the largest IP packet that clients send to the node. With the outer header, of 20
        bytes for IPv4 backends and 40 for IPv6 ones, and 8 more with C(forwarding=gue), it has to
        fit where it goes.
    type: int
    default: 1500
  fail_on:
    description:
      - The status from which on a check makes the module fail. What does not is returned, and
        warnings are shown as such.
    type: str
    choices: [failed, warning, never]
    default: failed
"""

EXAMPLES = r"""
- name: Look before anything changes
  l4lb.xdp.preflight:
    interfaces: [eth0]
    source_ipv4: 192.0.2.11
    pools: "{{ l4lb_pools }}"
    services: "{{ l4lb_services }}"

- name: Look, and go on whatever is found
  l4lb.xdp.preflight:
    interfaces: [eth0]
    fail_on: never
  register: looked

- name: Show what somebody should look after
  ansible.builtin.debug:
    msg: "{{ item.name }} {{ item.subject }}: {{ item.found }}; {{ item.remedy }}"
  loop: "{{ looked.checks | rejectattr('status', 'in', ['ok', 'skipped']) }}"
"""

RETURN = r"""
checks:
  description: Every check that was made.
  returned: always, unless an argument is mistaken
  type: list
  elements: dict
  contains:
    name:
      description:
        - C(kernel), C(libraries), C(headers), C(privileges), C(bpffs), C(maps), C(memory),
          C(clock); of interfaces C(interface) (that it exists), C(link_kind) (whether the
          balancer can work on one of its kind), C(native_xdp), C(xdp_mtu) (the driver's limit),
          C(queues), C(offloads), C(hash_fields), C(foreign_program); of addresses
          C(service_addresses), C(tunnel_source); of the ways to backends C(routes), C(neighbours),
          C(redirect), C(mtu) (room for the outer header).
      type: str
      sample: mtu
    subject:
      description: The interface, library, address or argument that was looked at; may be empty.
      type: str
      sample: eth0
    status:
      description:
        - V(ok); V(warning), it works worse than it could; V(failed), it would not work;
          V(skipped), it cannot be looked at yet; V(unknown), the kernel or the driver does not
          tell.
      type: str
      sample: failed
    found:
      description: What there is.
      type: str
      sample: >-
        MTU 1500 to 2 IPv4 backends, but a client's packet of 1500 bytes has 1520 with its outer
        header and would be lost without a word
    remedy:
      description: What to do. Empty where nothing has to be done.
      type: str
      sample: >-
        give eth0, its route and the network to the real servers an MTU of 1520, or have clients
        send at most 1480 bytes (MSS) and set client_mtu (l4lb_client_mtu) to that
environment:
  description: What the host is inside of, V(none) for metal.
  returned: always, unless an argument is mistaken
  type: dict
  contains:
    virtualization:
      description: The hypervisor's kind, V(other) if it is not known.
      type: str
      sample: kvm
    container:
      description: The container's kind.
      type: str
      sample: systemd-nspawn
summary:
  description: How many checks have each status.
  returned: always, unless an argument is mistaken
  type: dict
  sample: {ok: 17, warning: 1, failed: 0, skipped: 0, unknown: 2}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.l4lb.xdp.plugins.module_utils._module import PATHS, SIZES, finish
from ansible_collections.l4lb.xdp.plugins.module_utils._preflight import preflight

SPEC = {
    "interfaces": {"type": "list", "elements": "str", "required": True},
    "mode": {"choices": ["native", "generic"], "default": "native"},
    "replace_foreign": {"type": "bool", "default": False},
    **SIZES,
    "source_ipv4": {"type": "str"},
    "source_ipv6": {"type": "str"},
    "source_prefix_ipv4": {"type": "str"},
    "source_prefix_ipv6": {"type": "str"},
    "pools": {"type": "raw"},
    "services": {"type": "raw"},
    "client_mtu": {"type": "int", "default": 1500},
    "fail_on": {"choices": ["failed", "warning", "never"], "default": "failed"},
    **PATHS,
}


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    finish(module, lambda: preflight(module.params), "node")


if __name__ == "__main__":
    main()
