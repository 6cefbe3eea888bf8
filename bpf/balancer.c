/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The packet's way through a node, top to bottom. What is not addressed to a service goes to the
 * kernel untouched.
 */
#include "maps.h"
#include "parse.h"
#include "flowhash.h"
#include "steer.h"
#include "nexthop.h"
#include "encap.h"
#include "stats.h"

static __always_inline int has_source(const struct settings *node, const struct backend *backend)
{
	return backend->ipv6 ? node->source6[0] : node->source4;
}

/* Wraps the packet and sends it to its backend; returns the verdict. */
static __always_inline enum verdict forward(struct xdp_md *ctx, const struct packet *packet,
					    __u32 index, const struct backend *backend,
					    const struct settings *node, __u64 hash)
{
	struct nexthop *hop = nexthops.lookup(&index);
	struct ethhdr *ethernet = (void *)(long)ctx->data;
	struct ethhdr link;
	enum hop found;

	if (!has_source(node, backend))
		return VERDICT_DROP_NO_SOURCE;
	if (!hop || (void *)(ethernet + 1) > (void *)(long)ctx->data_end)
		return VERDICT_DROP_NO_ROUTE;
	found = find_nexthop(ctx, backend, node, hop);
	if (found == HOP_NONE)
		return VERDICT_DROP_NO_ROUTE;
	link = *ethernet; /* the kernel takes what is addressed to this node */
	if (found == HOP_FOUND) {
		__builtin_memcpy(link.h_dest, hop->destination, ETH_ALEN);
		__builtin_memcpy(link.h_source, hop->source, ETH_ALEN);
	}
	if (encap(ctx, packet, &link, backend, node, hash))
		return VERDICT_DROP_NO_HEADROOM;
	if (found == HOP_KERNEL)
		return VERDICT_TO_KERNEL;
	return hop->interface == ctx->ingress_ifindex ? VERDICT_SENT : VERDICT_REDIRECTED;
}

static __always_inline int action(enum verdict verdict, const struct nexthop *hop)
{
	switch (verdict) {
	case VERDICT_SENT:
		return XDP_TX;
	case VERDICT_REDIRECTED:
		return hop ? bpf_redirect(hop->interface, 0) : XDP_DROP;
	case VERDICT_PASS_FOREIGN:
	case VERDICT_TO_KERNEL:
		return XDP_PASS;
	default:
		return XDP_DROP;
	}
}

int balancer(struct xdp_md *ctx)
{
	struct packet packet = {};
	enum verdict verdict = VERDICT_PASS_FOREIGN;
	struct settings *node;
	struct service *service;
	struct backend *backend;
	struct pool *pool;
	__u32 zero = 0, index = 0;
	__u64 hash;

	if (parse(ctx, &packet))
		goto out;
	service = find_service(&packet);
	if (!service)
		goto out;
	pool = pools.lookup(&service->pool);
	node = settings.lookup(&zero);
	if (!pool || !node)
		goto out;
	hash = flow_hash(&packet, node->hash_seed);
	index = steer(&packet, service->pool, pool, hash);
	backend = backends.lookup(&index);
	if (!index || !backend) {
		verdict = VERDICT_DROP_NO_BACKEND;
		goto out;
	}
	verdict = forward(ctx, &packet, index, backend, node, hash);
	count_forwarded(service->id, index, packet.length);
out:
	count_verdict(verdict, packet.length);
	return action(verdict, nexthops.lookup(&index));
}
