/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The one map of the far end: the addresses at which tunnels end on this real server.
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

#endif
