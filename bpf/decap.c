/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The far end: a real server whose kernel has no IP-in-IP tunnels takes the outer header off here.
 * Only tunnels that end at one of its own addresses are opened; all else is passed untouched.
 */
#include "decap_maps.h"
#include "parse.h"

/* The type of what an outer header of `protocol` carries, 0 when it is no tunnel. */
static __always_inline __be16 inner_type(__u8 protocol)
{
	if (protocol == IPPROTO_IPIP)
		return bpf_htons(ETH_P_IP);
	if (protocol == IPPROTO_IPV6)
		return bpf_htons(ETH_P_IPV6);
	return 0;
}

static __always_inline int ends_here(const struct tunnel_end *end)
{
	return tunnel_ends.lookup((struct tunnel_end *)end) != NULL;
}

/* Length of an outer IPv4 header that ends here, 0 when it is not for us. */
static __always_inline int outer_ipv4(struct iphdr *ip, void *data_end, __be16 *type)
{
	struct tunnel_end end = {};

	if ((void *)(ip + 1) > data_end || ip->version != 4 || ip->ihl * 4 != sizeof(*ip))
		return 0;
	if (ip->frag_off & bpf_htons(IPV4_FRAGMENTED))
		return 0;
	end.address[0] = ip->daddr;
	*type = inner_type(ip->protocol);
	return *type && ends_here(&end) ? sizeof(*ip) : 0;
}

static __always_inline int outer_ipv6(struct ipv6hdr *ip, void *data_end, __be16 *type)
{
	struct tunnel_end end = {};

	if ((void *)(ip + 1) > data_end || ip->version != 6)
		return 0;
	__builtin_memcpy(end.address, &ip->daddr, sizeof(end.address));
	*type = inner_type(ip->nexthdr);
	return *type && ends_here(&end) ? sizeof(*ip) : 0;
}

static __always_inline int strip(struct xdp_md *ctx, const struct ethhdr *link, int header)
{
	struct ethhdr *ethernet;

	if (bpf_xdp_adjust_head(ctx, header))
		return XDP_DROP;
	ethernet = (void *)(long)ctx->data;
	if ((void *)(ethernet + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	*ethernet = *link;
	return XDP_PASS;
}

int decap(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *ethernet = (void *)(long)ctx->data;
	struct ethhdr link;
	int header = 0;

	if ((void *)(ethernet + 1) > data_end)
		return XDP_PASS;
	link = *ethernet;
	if (link.h_proto == bpf_htons(ETH_P_IP))
		header = outer_ipv4((void *)(ethernet + 1), data_end, &link.h_proto);
	else if (link.h_proto == bpf_htons(ETH_P_IPV6))
		header = outer_ipv6((void *)(ethernet + 1), data_end, &link.h_proto);
	return header ? strip(ctx, &link, header) : XDP_PASS;
}
