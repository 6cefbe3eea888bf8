/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The last step: to the backend, by the way that the kernel's routes say. Wrapped, or on the node's own
 * links with other MAC addresses; what is left to the kernel is wrapped in any case, for only then does
 * the kernel look for the backend.
 */
#ifndef L4LB_FORWARD_H
#define L4LB_FORWARD_H

#include "encap.h"
#include "maps.h"
#include "nexthop.h"
#include "parse.h"
#include "stats.h"
#include "steer.h"

static __always_inline int has_source(const struct settings *node, const struct backend *backend)
{
	return backend->ipv6 ? node->own.ipv6[0] : node->own.ipv4;
}

/* Addresses the frame to the next hop. Out of another interface it goes without its tags. */
static __always_inline void address(struct link *link, const struct nexthop *hop, __u32 ingress)
{
	link->macs = *(struct macs *)hop->destination; /* and the source, which follows */
	if (unlikely(link->tags && hop->interface != ingress))
		cut_tags(link);
}

/* Makes the packet what the backend's pool wants it to be. What the kernel is to forward has the
 * node's own address, which it accepts from no one else.
 */
static __always_inline int dress(struct xdp_md *ctx, const struct packet *packet,
				 const struct link *link, const struct backend *backend,
				 const struct settings *node, __u32 label, enum hop found)
{
	const struct sources *from = found == HOP_FOUND ? &node->outer : &node->own;

	if (likely(backend->forwarding == FORWARDING_IPIP))
		return encap(ctx, packet, link, backend, from, label);
	if (backend->forwarding == FORWARDING_GUE)
		return encap_gue(ctx, packet, link, backend, from, node->gue_port, label);
	if (found == HOP_FOUND)
		return readdress(ctx, packet, link);
	return encap(ctx, packet, link, backend, from, label);
}

static __always_inline enum verdict forward(struct xdp_md *ctx, const struct packet *packet,
					    struct choice *choice, const struct settings *node)
{
	struct backend *backend = backends.lookup(&choice->backend);
	struct nexthop *hop = nexthops.lookup(&choice->backend);
	struct link link = {};
	enum hop found;

	if (!backend || !hop || read_link(ctx, packet, &link))
		return VERDICT_DROP_NO_BACKEND;
	if (!has_source(node, backend))
		return VERDICT_DROP_NO_SOURCE;
	found = find_nexthop(ctx, backend, node, hop);
	if (found == HOP_NONE)
		return VERDICT_DROP_NO_ROUTE;
	if (found == HOP_FOUND) { /* else the kernel takes what is addressed to this node */
		if (unlikely(packet->length + outer_length(backend) > hop->mtu)) {
			choice->mtu = hop->mtu - outer_length(backend);
			return VERDICT_DROP_TOO_BIG;
		}
		address(&link, hop, ctx->ingress_ifindex);
		choice->interface = hop->interface;
	}
	if (dress(ctx, packet, &link, backend, node, choice->label, found))
		return VERDICT_DROP_NO_HEADROOM;
	count_forwarded(packet, choice);
	if (found == HOP_KERNEL)
		return VERDICT_TO_KERNEL;
	return choice->interface == ctx->ingress_ifindex ? VERDICT_SENT : VERDICT_REDIRECTED;
}

#endif
