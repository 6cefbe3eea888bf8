/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * IP in IP (RFC 2003, RFC 2473, RFC 4213), with UDP in between where a pool wants it (gue.h): either
 * family in either. The inner packet is not touched.
 * DSCP and ECN are copied outwards (RFC 6040, normal mode). DF is set with identification 0, an
 * atomic datagram (RFC 6864), whatever the inner packet's DF: nobody has to put tunnel fragments
 * together again, and what would not fit is answered before (too_big.h).
 */
#ifndef L4LB_ENCAP_H
#define L4LB_ENCAP_H

#include "checksum.h"
#include "gue.h"
#include "maps.h"
#include "parse.h"

#define TTL 64 /* of every header that the node writes */
#define FLOW_LABEL_MASK 0x000fffff

/* The MAC addresses of a frame, destination first. Words: bytes would be moved one by one. */
struct macs {
	__u32 words[3];
};

/* What stands in front of the IP packet. Tags lie behind the Ethernet header as parse.h reads them:
 * each brings the type of what follows it.
 */
struct link {
	struct macs macs;
	__be16 type;
	__be16 tags; /* those that the packet leaves with: all it came with, or none */
	struct tag tag[MAX_TAGS];
	__u32 cut; /* bytes of tags that are taken off */
};

static __always_inline int read_link(struct xdp_md *ctx, const struct packet *packet,
				     struct link *link)
{
	struct ethernet *ethernet = (void *)(long)ctx->data;
	struct tag *tag = (void *)(ethernet + 1);

	if ((void *)(tag + MAX_TAGS) > (void *)(long)ctx->data_end)
		return -1; /* no IP packet is as short as two tags */
	link->macs = *(struct macs *)ethernet;
	if (unlikely(packet->tags)) {
		link->type = ethernet->type;
		link->tags = packet->tags;
		link->tag[0] = tag[0];
		link->tag[1] = tag[1];
	}
	return 0;
}

/* Tags belong to the link that the packet came by. */
static __always_inline void cut_tags(struct link *link)
{
	link->cut = link->tags * sizeof(struct tag);
	link->tags = 0;
}

/* Makes room for `length` bytes of headers and writes `link` in front of them, the last type being
 * `type`. Returns where the headers go, NULL when the driver left no room.
 */
static __always_inline void *push(struct xdp_md *ctx, const struct link *link, __be16 type,
				  int length)
{
	struct ethernet *ethernet;
	struct tag *tag;

	if (bpf_xdp_adjust_head(ctx, (int)link->cut - length))
		return NULL;
	ethernet = (void *)(long)ctx->data;
	tag = (void *)(ethernet + 1);
	if ((void *)(tag + MAX_TAGS) + length > (void *)(long)ctx->data_end)
		return NULL;
	*(struct macs *)ethernet = link->macs;
	if (likely(!link->tags)) {
		ethernet->type = type;
		return tag;
	}
	ethernet->type = link->type;
	tag[0] = link->tag[0];
	if (link->tags == 1) {
		tag[0].type = type;
		return tag + 1;
	}
	tag[1].control = link->tag[1].control;
	tag[1].type = type;
	return tag + 2;
}

/* Words are summed as they are written: to read them back would be to wait for the stores. */
static __always_inline void write_ipv4(struct iphdr *ip, __u8 traffic_class, __u8 protocol,
				       __u16 length, __be32 source, __be32 destination)
{
	__be32 *word = (__be32 *)ip;
	__be32 first = bpf_htonl(0x45 << 24 | traffic_class << 16 | (__u16)(length + sizeof(*ip)));
	__be32 second = bpf_htonl(IPV4_DONT_FRAGMENT);
	__be32 third = bpf_htonl(TTL << 24 | protocol << 16);
	word[0] = first;
	word[1] = second;
	word[2] = third;
	ip->check = fold((__u64)first + second + third + source + destination);
	ip->saddr = source;
	ip->daddr = destination;
}

static __always_inline void write_ipv6(struct ipv6hdr *ip, __u8 traffic_class, __u32 label,
				       __u8 next_header, __u16 length, const __be32 *source,
				       const __be32 *destination)
{
	*(__be32 *)ip = bpf_htonl(6 << 28 | (__u32)traffic_class << 20 | (label & FLOW_LABEL_MASK));
	ip->payload_len = bpf_htons(length);
	ip->nexthdr = next_header;
	ip->hop_limit = TTL;
	__builtin_memcpy(&ip->saddr, source, sizeof(ip->saddr));
	__builtin_memcpy(&ip->daddr, destination, sizeof(ip->daddr));
}

/* Bytes that a packet grows by. */
static __always_inline __u32 outer_length(const struct backend *backend)
{
	__u32 length = backend->ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);

	if (likely(backend->forwarding == FORWARDING_IPIP))
		return length;
	return backend->forwarding == FORWARDING_GUE ? length + sizeof(struct udphdr) : 0;
}

/* Writes the frame's other MAC addresses; the IP packet stays as it is, its TTL too. Nothing moves
 * unless tags are cut off, and then as for an outer header of no length.
 */
static __always_inline int readdress(struct xdp_md *ctx, const struct packet *packet,
				     const struct link *link)
{
	struct ethernet *ethernet = (void *)(long)ctx->data;
	__be16 type = packet->ipv6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);

	if (unlikely(link->cut))
		return push(ctx, link, type, 0) ? 0 : -1;
	if ((void *)(ethernet + 1) > (void *)(long)ctx->data_end)
		return -1;
	*(struct macs *)ethernet = link->macs;
	return 0;
}

/* The outer source: the node's, or of a prefix by the flow's hash, so that whoever spreads packets by
 * their addresses spreads one node's tunnels.
 */
static __always_inline __be32 source4(const struct sources *from, __u32 label)
{
	return from->ipv4 | (bpf_htonl(label) & from->spread4);
}

static __always_inline struct address6 source6(const struct sources *from, __u32 label)
{
	struct address6 source;

	__builtin_memcpy(source.words, from->ipv6, sizeof(source.words));
	source.words[3] |= bpf_htonl(label) & from->spread6;
	return source;
}

/* Puts the outer headers in front. The flow label carries the flow's hash, so that routers spread
 * one node's tunnels (RFC 6438).
 */
static __always_inline int encap(struct xdp_md *ctx, const struct packet *packet,
				 const struct link *link, const struct backend *backend,
				 const struct sources *from, __u32 label)
{
	__u8 inner = packet->ipv6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
	struct address6 source;
	void *outer;

	if (backend->ipv6) {
		source = source6(from, label);
		outer = push(ctx, link, bpf_htons(ETH_P_IPV6), sizeof(struct ipv6hdr));
		if (!outer)
			return -1;
		write_ipv6(outer, packet->traffic_class, label, inner, packet->length, source.words,
			   backend->address);
	} else {
		outer = push(ctx, link, bpf_htons(ETH_P_IP), sizeof(struct iphdr));
		if (!outer)
			return -1;
		write_ipv4(outer, packet->traffic_class, inner, packet->length,
			   source4(from, label), backend->address[0]);
	}
	return 0;
}

/* Puts the outer headers in front, and UDP behind them. */
static __always_inline int encap_gue(struct xdp_md *ctx, const struct packet *packet,
				     const struct link *link, const struct backend *backend,
				     const struct sources *from, __be16 port, __u32 label)
{
	struct address6 source;
	__u16 length = packet->length + sizeof(struct udphdr);
	struct ipv6hdr *ip6;
	struct iphdr *ip4;
	struct udphdr *udp;

	if (backend->ipv6) {
		source = source6(from, label);
		ip6 = push(ctx, link, bpf_htons(ETH_P_IPV6), sizeof(*ip6) + sizeof(*udp));
		if (!ip6)
			return -1;
		udp = (void *)(ip6 + 1);
		write_ipv6(ip6, packet->traffic_class, label, IPPROTO_UDP, length, source.words,
			   backend->address);
		write_gue(udp, label, port, packet->length);
		udp->check = gue_checksum(udp, source.words, backend->address, udp + 1,
					  (void *)(long)ctx->data_end, packet->ipv6);
	} else {
		ip4 = push(ctx, link, bpf_htons(ETH_P_IP), sizeof(*ip4) + sizeof(*udp));
		if (!ip4)
			return -1;
		write_ipv4(ip4, packet->traffic_class, IPPROTO_UDP, length, source4(from, label),
			   backend->address[0]);
		write_gue((void *)(ip4 + 1), label, port, packet->length);
	}
	return 0;
}

#endif
