/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The far end: a real server whose kernel has no IP-in-IP tunnels takes the outer headers off here.
 * Only tunnels from a node that end at one of its own addresses, and GUE (gue.h) also at its port, are
 * opened; all else is passed untouched, so that nftables drops and counts what is no node's. An outer
 * UDP checksum is not looked at: the inner packet has its own.
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

/* The type of what a UDP header for the port of GUE carries. */
static __always_inline __be16 gue_type(const struct udphdr *udp, const void *data_end)
{
	const __u8 *first = (const void *)(udp + 1);
	__u32 zero = 0;
	__be16 *port = tunnel_port.lookup(&zero);

	if (!port || !*port || (const void *)(first + 1) > data_end || udp->dest != *port)
		return 0;
	if (*first >> 4 == 4)
		return bpf_htons(ETH_P_IP);
	return *first >> 4 == 6 ? bpf_htons(ETH_P_IPV6) : 0;
}

/* Length of what stands between the outer IP header and the packet inside it. */
static __always_inline int between(__u8 protocol)
{
	return protocol == IPPROTO_UDP ? sizeof(struct udphdr) : 0;
}

static __always_inline int ends_here(const struct tunnel_end *end)
{
	return tunnel_ends.lookup((struct tunnel_end *)end) != NULL;
}

static __always_inline int from_node(const struct tunnel_source *source)
{
	return tunnel_sources.lookup((struct tunnel_source *)source) != NULL;
}

/* Length of outer headers over IPv4 that end here, 0 when they are not for us. */
static __always_inline int outer_ipv4(struct iphdr *ip, void *data_end, __be16 *type)
{
	struct tunnel_source source = { .bits = 128 };
	struct tunnel_end end = {};

	if ((void *)(ip + 1) > data_end || ip->version != 4 || ip->ihl * 4 != sizeof(*ip))
		return 0;
	if (ip->frag_off & bpf_htons(IPV4_FRAGMENTED))
		return 0;
	end.address[0] = ip->daddr;
	*type = ip->protocol == IPPROTO_UDP ? gue_type((void *)(ip + 1), data_end)
					    : inner_type(ip->protocol);
	source.address[2] = bpf_htonl(0xffff);
	source.address[3] = ip->saddr;
	if (!*type || !ends_here(&end) || !from_node(&source))
		return 0;
	return sizeof(*ip) + between(ip->protocol);
}

static __always_inline int outer_ipv6(struct ipv6hdr *ip, void *data_end, __be16 *type)
{
	struct tunnel_source source = { .bits = 128 };
	struct tunnel_end end = {};

	if ((void *)(ip + 1) > data_end || ip->version != 6)
		return 0;
	__builtin_memcpy(end.address, &ip->daddr, sizeof(end.address));
	*type = ip->nexthdr == IPPROTO_UDP ? gue_type((void *)(ip + 1), data_end)
					   : inner_type(ip->nexthdr);
	__builtin_memcpy(source.address, &ip->saddr, sizeof(source.address));
	if (!*type || !ends_here(&end) || !from_node(&source))
		return 0;
	return sizeof(*ip) + between(ip->nexthdr);
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
