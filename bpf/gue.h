/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Generic UDP Encapsulation in its direct form (draft-ietf-intarea-gue, variant 1): the IP packet
 * follows the UDP header, and its version tells it from the form with a header. Linux takes both at a
 * port of `ip fou add port 6080 gue` (net/ipv4/fou.c: gue_udp_recv), and Katran sends this one.
 *
 * The source port carries the flow's hash (RFC 7510, 3: 49152 to 65535). The UDP checksum is 0 over
 * IPv4. Over IPv6 it is right, without a look at the payload: what has a right checksum itself has a
 * known sum, as Linux reckons, too (local checksum offload). It is then wrong when the inner one is.
 * Where the inner packet does not tell, it is 0, which IPv6 allows tunnels (RFC 6935, RFC 6936).
 */
#ifndef L4LB_GUE_H
#define L4LB_GUE_H

#include "checksum.h"
#include "parse.h"

#define DYNAMIC_PORTS 0xc000 /* the first of them; the other bits are free */

static __always_inline void write_gue(struct udphdr *udp, __u32 label, __be16 port, __u16 length)
{
	udp->source = bpf_htons(DYNAMIC_PORTS | (label & ~DYNAMIC_PORTS));
	udp->dest = port;
	udp->len = bpf_htons(length + sizeof(*udp));
	udp->check = 0;
}

/* Whether a transport header has a checksum over all the `length` bytes of its packet. */
static __always_inline int is_summed(__u8 protocol, const struct udphdr *udp, __u32 length)
{
	if (protocol == IPPROTO_UDP)
		return udp->check && bpf_ntohs(udp->len) == length;
	return protocol == IPPROTO_TCP;
}

/* Adds what an IPv4 packet sums up to: its header to 0; the rest, with a pseudo header, also. */
static __always_inline int add_ipv4(const struct iphdr *ip, const void *end, __u64 *sum)
{
	const struct udphdr *udp = (const void *)(ip + 1);
	__u32 length;

	if ((const void *)(udp + 1) > end || ip->ihl * 4 != sizeof(*ip) ||
	    ip->frag_off & bpf_htons(IPV4_FRAGMENTED))
		return -1;
	if (ip->protocol == IPPROTO_ICMP) /* has no pseudo header */
		return 0;
	length = bpf_ntohs(ip->tot_len) - sizeof(*ip);
	if (!is_summed(ip->protocol, udp, length))
		return -1;
	*sum += (__u64)~ip->saddr + (__u32)~ip->daddr + (__u32)~bpf_htonl(length + ip->protocol);
	return 0;
}

/* Adds what an IPv6 packet sums up to: its addresses, which the pseudo header has too, to 0. */
static __always_inline int add_ipv6(const struct ipv6hdr *ip, const void *end, __u64 *sum)
{
	const struct udphdr *udp = (const void *)(ip + 1);
	const __be32 *words = (const void *)ip;
	__u32 length;

	if ((const void *)(udp + 1) > end)
		return -1;
	length = bpf_ntohs(ip->payload_len);
	if (ip->nexthdr != IPPROTO_ICMPV6 && !is_summed(ip->nexthdr, udp, length))
		return -1;
	*sum += (__u64)words[0] + words[1] + (__u32)~bpf_htonl(length + ip->nexthdr);
	return 0;
}

/* The sum of the UDP header's pseudo header. */
static __always_inline __u64 pseudo_sum(const struct udphdr *udp, const __be32 *source,
					const __be32 *destination)
{
	__u64 sum = bpf_htonl(bpf_ntohs(udp->len) + IPPROTO_UDP);

	sum += (__u64)source[0] + source[1] + source[2] + source[3];
	return sum + destination[0] + destination[1] + destination[2] + destination[3];
}

/* The checksum of a UDP header around the IP packet that lies at `inner`. */
static __always_inline __sum16 gue_checksum(const struct udphdr *udp, const __be32 *source,
					    const __be32 *destination, const void *inner,
					    const void *end, int ipv6)
{
	__u64 sum = pseudo_sum(udp, source, destination);
	__sum16 check;

	if (ipv6 ? add_ipv6(inner, end, &sum) : add_ipv4(inner, end, &sum))
		return 0;
	sum += (__u64)udp->source + udp->dest + udp->len;
	check = fold(sum);
	return check ? check : 0xffff; /* 0 would be none at all (RFC 768) */
}

#endif
