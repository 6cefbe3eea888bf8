/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * IP in IP (RFC 2003, RFC 2473, RFC 4213): either family in either. The inner packet is not touched.
 * DSCP and ECN are copied outwards (RFC 6040, normal mode). DF is set with identification 0, an
 * atomic datagram (RFC 6864): a router that cannot carry it says so.
 */
#ifndef L4LB_ENCAP_H
#define L4LB_ENCAP_H

#include "maps.h"
#include "parse.h"

#define OUTER_TTL 64
#define FLOW_LABEL_MASK 0x000fffff

static __always_inline __u8 inner_protocol(const struct packet *packet)
{
	return packet->ipv6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
}

static __always_inline __sum16 ipv4_checksum(const struct iphdr *ip)
{
	const __u32 *word = (const __u32 *)ip;
	__u64 sum = (__u64)word[0] + word[1] + word[2] + word[3] + word[4];

	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* Makes room for an outer header of `length` and writes the Ethernet header in front of it: `link`
 * with that type. NULL when the driver left no room.
 */
static __always_inline void *push(struct xdp_md *ctx, const struct ethhdr *link, __be16 type,
				  int length)
{
	struct ethhdr *ethernet;

	if (bpf_xdp_adjust_head(ctx, -length))
		return NULL;
	ethernet = (void *)(long)ctx->data;
	if ((void *)(ethernet + 1) + length > (void *)(long)ctx->data_end)
		return NULL;
	*ethernet = *link;
	ethernet->h_proto = type;
	return ethernet + 1;
}

static __always_inline int encap_ipv4(struct xdp_md *ctx, const struct packet *packet,
				      const struct ethhdr *link, __be32 source, __be32 destination)
{
	struct iphdr *ip = push(ctx, link, bpf_htons(ETH_P_IP), sizeof(*ip));

	if (!ip)
		return -1;
	ip->version = 4;
	ip->ihl = sizeof(*ip) / 4;
	ip->tos = packet->traffic_class;
	ip->tot_len = bpf_htons(packet->length + sizeof(*ip));
	ip->id = 0;
	ip->frag_off = bpf_htons(IPV4_DONT_FRAGMENT);
	ip->ttl = OUTER_TTL;
	ip->protocol = inner_protocol(packet);
	ip->check = 0;
	ip->saddr = source;
	ip->daddr = destination;
	ip->check = ipv4_checksum(ip);
	return 0;
}

/* The flow label carries the flow's hash, so that routers spread one node's tunnels (RFC 6438). */
static __always_inline int encap_ipv6(struct xdp_md *ctx, const struct packet *packet,
				      const struct ethhdr *link, const __be32 *source,
				      const __be32 *destination, __u64 hash)
{
	struct ipv6hdr *ip = push(ctx, link, bpf_htons(ETH_P_IPV6), sizeof(*ip));

	if (!ip)
		return -1;
	*(__be32 *)ip = bpf_htonl(6 << 28 | (__u32)packet->traffic_class << 20 |
				  ((__u32)hash & FLOW_LABEL_MASK));
	ip->payload_len = bpf_htons(packet->length);
	ip->nexthdr = inner_protocol(packet);
	ip->hop_limit = OUTER_TTL;
	__builtin_memcpy(&ip->saddr, source, sizeof(ip->saddr));
	__builtin_memcpy(&ip->daddr, destination, sizeof(ip->daddr));
	return 0;
}

/* Puts the outer headers in front; `link` is the Ethernet header they get, all but its type. */
static __always_inline int encap(struct xdp_md *ctx, const struct packet *packet,
				 const struct ethhdr *link, const struct backend *backend,
				 const struct settings *node, __u64 hash)
{
	if (backend->ipv6)
		return encap_ipv6(ctx, packet, link, node->source6, backend->address, hash);
	return encap_ipv4(ctx, packet, link, node->source4, backend->address[0]);
}

#endif
