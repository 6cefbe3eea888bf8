/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Where the encapsulated packet goes, and what fits through there: the kernel's routes and
 * neighbours, asked about once a second for each backend and CPU.
 */
#ifndef L4LB_NEXTHOP_H
#define L4LB_NEXTHOP_H

#include "fib.h"
#include "maps.h"
#include "parse.h"

#include <uapi/linux/if_ether.h>

enum hop {
	HOP_FOUND,
	HOP_KERNEL, /* only the kernel can go on: it has to resolve the neighbour, or deliver here */
	HOP_NONE, /* the route says that nothing goes there */
};

/* Whether the next hop is the backend itself. */
static __always_inline int is_on_link(const struct backend *backend,
				      const struct bpf_fib_lookup *query)
{
	if (backend->ipv6)
		return is_same(query->ipv6_dst, backend->address);
	return query->family == AF_INET && query->ipv4_dst == backend->address[0];
}

static __always_inline enum hop ask_kernel(struct xdp_md *ctx, const struct backend *backend,
					   const struct settings *node, struct nexthop *hop,
					   __u32 now)
{
	const __be32 *source = backend->ipv6 ? node->own.ipv6 : &node->own.ipv4;
	struct bpf_fib_lookup query = {};
	long found = ask_routes(ctx, backend->ipv6, source, backend->address, &query);

	if (backend->forwarding == FORWARDING_L2 &&
	    (found == BPF_FIB_LKUP_RET_SUCCESS || found == BPF_FIB_LKUP_RET_NO_NEIGH) &&
	    !is_on_link(backend, &query))
		return HOP_NONE;
	switch (found) {
	case BPF_FIB_LKUP_RET_SUCCESS:
		break;
	case BPF_FIB_LKUP_RET_BLACKHOLE:
	case BPF_FIB_LKUP_RET_UNREACHABLE:
	case BPF_FIB_LKUP_RET_PROHIBIT:
		return HOP_NONE;
	default: /* no neighbour yet, a local address, a route XDP cannot follow */
		return HOP_KERNEL;
	}
	hop->interface = query.ifindex;
	hop->mtu = query.mtu_result;
	__builtin_memcpy(hop->destination, query.dmac, ETH_ALEN);
	__builtin_memcpy(hop->source, query.smac, ETH_ALEN);
	hop->asked = now;
	return HOP_FOUND;
}

static __always_inline enum hop find_nexthop(struct xdp_md *ctx, const struct backend *backend,
					     const struct settings *node, struct nexthop *hop)
{
	__u32 now = bpf_jiffies64();

	if (hop->interface && now - hop->asked < HOP_LIFETIME)
		return HOP_FOUND;
	return ask_kernel(ctx, backend, node, hop, now);
}

#endif
