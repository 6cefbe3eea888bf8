/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The maps of the far end: the addresses at which tunnels end on this real server, and the UDP port.
 */
#ifndef L4LB_DECAP_MAPS_H
#define L4LB_DECAP_MAPS_H

#include <uapi/linux/bpf.h>

#define MAX_TUNNEL_ENDS 64

struct tunnel_end {
	__be32 address[4]; /* an IPv4 address stands in the first word */
};

BPF_TABLE_PINNED("hash", struct tunnel_end, __u8, tunnel_ends, MAX_TUNNEL_ENDS,
		 PINS "/tunnel_ends");
/* Where GUE ends; 0: nowhere. */
BPF_TABLE_PINNED("array", __u32, __be16, tunnel_port, 1, PINS "/tunnel_port");

#endif
