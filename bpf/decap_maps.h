/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The maps of the far end: the addresses at which tunnels end on this real server, the UDP port, and
 * from where tunnels may come.
 */
#ifndef L4LB_DECAP_MAPS_H
#define L4LB_DECAP_MAPS_H

#include <uapi/linux/bpf.h>

#define MAX_TUNNEL_ENDS 64
#define MAX_TUNNEL_SOURCES 4096

struct tunnel_end {
	__be32 address[4]; /* an IPv4 address stands in the first word */
};

/* The first `bits` of an address; one of IPv4 stands as ::ffff:a.b.c.d. */
struct tunnel_source {
	__u32 bits;
	__be32 address[4];
};

BPF_TABLE_PINNED("hash", struct tunnel_end, __u8, tunnel_ends, MAX_TUNNEL_ENDS,
		 PINS "/tunnel_ends");
/* Where GUE ends; 0: nowhere. */
BPF_TABLE_PINNED("array", __u32, __be16, tunnel_port, 1, PINS "/tunnel_port");
/* The nodes; anybody where no bit counts. */
BPF_TABLE_PINNED("lpm_trie", struct tunnel_source, __u8, tunnel_sources, MAX_TUNNEL_SOURCES,
		 PINS "/tunnel_sources", BPF_F_NO_PREALLOC);

#endif
