/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What l4lb.xdp.explain asks the kernel about a next hop: the balancer's own question, which netlink
 * answers differently (policy rules by interface, several paths, forwarding switched off). It is run
 * on a packet of no meaning and never attached.
 */
#include "fib.h"

#include <uapi/linux/if_ether.h>

/* Addresses as in maps.h: in network order, an IPv4 address in the first word. */
struct way {
	__be32 source[4];
	__be32 destination[4];
	__u32 ipv6;
	/* The answer. */
	__s32 result; /* BPF_FIB_LKUP_RET_*, or an error below 0 */
	__u32 interface;
	__u32 via_ipv6;
	__be32 via[4]; /* the neighbour: a router, or the destination itself */
	__u8 via_mac[6];
	__u8 pad[2];
	__u32 now; /* jiffies; what a CPU was told less than `lifetime` ago it goes by */
	__u32 lifetime;
};

BPF_ARRAY(ways, struct way, 1);

int explain(struct xdp_md *ctx)
{
	struct bpf_fib_lookup query = {};
	__u32 zero = 0;
	struct way *way = ways.lookup(&zero);

	if (!way)
		return XDP_ABORTED;
	way->result = ask_routes(ctx, way->ipv6, way->source, way->destination, &query);
	way->interface = query.ifindex;
	way->via_ipv6 = query.family == AF_INET6;
	__builtin_memcpy(way->via, query.ipv6_dst, sizeof(way->via));
	__builtin_memcpy(way->via_mac, query.dmac, sizeof(way->via_mac));
	way->now = bpf_jiffies64();
	way->lifetime = HOP_LIFETIME;
	return XDP_PASS;
}
