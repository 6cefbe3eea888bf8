/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The question for the kernel's routes and neighbours, put in one way by the balancer and by whoever
 * explains it.
 */
#ifndef L4LB_FIB_H
#define L4LB_FIB_H

#include <uapi/linux/bpf.h>

/* How long a CPU goes by an answer: a second, in jiffies. Every packet asks for that age, and jiffies
 * are one load where the other clocks are calls. Unsigned: CPUs share them, so none is ahead.
 */
#define HOP_LIFETIME JIFFIES_PER_SECOND

#define AF_INET 2
#define AF_INET6 10

/* The next hop of an encapsulated packet that came in where `ctx` says: BPF_FIB_LKUP_RET_*, or an
 * error below 0. `query` begins as zeroes and then holds the interface, the next hop's address and
 * the link addresses.
 */
static __always_inline long ask_routes(struct xdp_md *ctx, int ipv6, const __be32 *source,
				       const __be32 *destination, struct bpf_fib_lookup *query)
{
	query->ifindex = ctx->ingress_ifindex;
	if (ipv6) {
		query->family = AF_INET6;
		__builtin_memcpy(query->ipv6_src, source, sizeof(query->ipv6_src));
		__builtin_memcpy(query->ipv6_dst, destination, sizeof(query->ipv6_dst));
	} else {
		query->family = AF_INET;
		query->ipv4_src = *source;
		query->ipv4_dst = *destination;
	}
	return bpf_fib_lookup(ctx, query, sizeof(*query), 0);
}

#endif
