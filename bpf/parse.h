/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The first step: what the packet is. Nothing is read before it is proven to lie within the frame,
 * and nothing counts that lies behind the IP packet's own end.
 */
#ifndef L4LB_PARSE_H
#define L4LB_PARSE_H

#include <uapi/linux/if_ether.h>
#include <uapi/linux/in.h>
#include <uapi/linux/ip.h>
#include <uapi/linux/ipv6.h>
#include <uapi/linux/tcp.h>
#include <uapi/linux/udp.h>

#define MAX_TAGS 2
#define MAX_OPTIONS 3 /* before a fragment header, and after it: as many as RFC 8200 has kinds */
#define OPTIONS_MASK 0x1fff /* more than their bytes; four such still lie within 64 KB */

#define SCTP_INIT 1

#define IPV4_DONT_FRAGMENT 0x4000
#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_OFFSET 0x1fff
#define IPV4_FRAGMENTED (IPV4_MORE_FRAGMENTS | IPV4_OFFSET)
#define IPV6_MORE_FRAGMENTS 0x0001
#define IPV6_OFFSET 0xfff8

enum content {
	CONTENT_FLOW, /* addresses, ports, protocol: TCP, UDP or SCTP */
	CONTENT_ICMP, /* of its family; the cursor stands at its header */
	CONTENT_FRAGMENT, /* a later one: no ports */
	CONTENT_OTHER, /* another protocol */
	CONTENT_MALFORMED, /* it has addresses, but its version or a length lies */
	CONTENT_UNKNOWN, /* nothing that has a destination address */
};

enum fragment {
	FRAGMENT_WHOLE,
	FRAGMENT_FIRST,
	FRAGMENT_LATER,
};

/* The flow a packet belongs to. For an ICMP error that is the flow the error is about. */
struct packet {
	__be32 source[4];
	__be32 destination[4];
	__be16 source_port;
	__be16 destination_port;
	__u16 length; /* of the IP packet, as its header says; 0 until that is proven */
	__u8 protocol;
	__u8 ipv6;
	__u8 traffic_class; /* DSCP and ECN */
	__u8 opens; /* TCP SYN without ACK; SCTP INIT */
	__u8 tags; /* 802.1Q or 802.1ad tags between the MAC addresses and the type */
	__u8 fragment; /* enum fragment */
	__u8 error; /* an ICMP error: it follows its flow and leaves no trace in the flow table */
	__u8 echo; /* an echo request that a backend shall answer: it is no flow */
	__be32 fragment_id;
};

/* How far the frame has been read, and how much of the IP packet comes after that. The two ends
 * are told apart because of padding: reading is safe up to `end`, but honest only for `left` bytes.
 *
 * `zero` is 0, which the verifier cannot know. Every value that it knows it follows through the rest
 * of the program: each number of tags and headers would be proven all the way for itself. Where
 * rare ways meet the plain one, zero is added, and the rest is proven once for all of them.
 */
struct cursor {
	void *at;
	void *end;
	__u32 left;
	__u32 zero;
	__u32 plain; /* reading ends at tags, fragments, extension headers */
};

/* An Ethernet header; the kernel's is packed, so that its type would be read byte by byte. */
struct ethernet {
	__be16 destination[3];
	__be16 source[3];
	__be16 type;
};

struct ports {
	__be16 source;
	__be16 destination;
};

/* SCTP's common header and the head of the first chunk (RFC 9260, 3). */
struct sctp {
	struct ports ports;
	__be32 verification_tag;
	__le32 checksum;
	__u8 chunk; /* its type */
	__u8 flags;
	__be16 length;
};

struct tag {
	__be16 control;
	__be16 type;
};

/* A hop-by-hop, routing or destination options header: its length is in 8 bytes after the first. */
struct extension {
	__u8 next;
	__u8 length;
};

struct fragment_header {
	__u8 next;
	__u8 reserved;
	__be16 offset;
	__be32 id;
};

/* A length in host order. Linux 6.1 does not know that 16 bits stay 16 bits when they are swapped, and
 * the compiler does.
 */
static __always_inline __u32 host_length(__be16 length)
{
	__u64 swapped = bpf_ntohs(length);

	asm volatile("%0 &= 0xffff" : "+r"(swapped));
	return swapped;
}

/* Whether two IPv6 addresses are one. */
static __always_inline int is_same(const __be32 *one, const __be32 *other)
{
	return !((one[0] ^ other[0]) | (one[1] ^ other[1]) | (one[2] ^ other[2]) |
		 (one[3] ^ other[3]));
}

/* Whether `size` bytes of the IP packet are there to be read. */
#define has(cursor, size) ((cursor)->left >= (size) && (cursor)->at + (size) <= (cursor)->end)

static __always_inline void advance(struct cursor *cursor, __u32 size)
{
	cursor->at += size;
	cursor->left -= size;
}

/* The packet's length, known to lie within the frame. A newer clang concludes from that much of what
 * has() asks and leaves the question out, but it is the question that convinces the verifier.
 */
static __always_inline void set_length(struct cursor *cursor, struct packet *packet, __u32 length)
{
	asm volatile("" : "+r"(length));
	packet->length = length;
	cursor->left = length;
}

static __always_inline enum content parse_transport(struct cursor *cursor, struct packet *packet)
{
	struct tcphdr *tcp = cursor->at;
	struct udphdr *udp = cursor->at;
	struct sctp *sctp = cursor->at;

	if (packet->protocol == IPPROTO_TCP) {
		if (!has(cursor, sizeof(*tcp)))
			return CONTENT_MALFORMED;
		packet->source_port = tcp->source;
		packet->destination_port = tcp->dest;
		packet->opens = tcp->syn && !tcp->ack;
		return CONTENT_FLOW;
	}
	if (packet->protocol == IPPROTO_UDP) {
		if (!has(cursor, sizeof(*udp)))
			return CONTENT_MALFORMED;
		packet->source_port = udp->source;
		packet->destination_port = udp->dest;
		return CONTENT_FLOW;
	}
	if (packet->protocol == IPPROTO_SCTP) {
		if (!has(cursor, sizeof(*sctp)))
			return CONTENT_MALFORMED;
		packet->source_port = sctp->ports.source;
		packet->destination_port = sctp->ports.destination;
		packet->opens = sctp->chunk == SCTP_INIT;
		return CONTENT_FLOW;
	}
	if (packet->protocol == (packet->ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		return CONTENT_ICMP;
	return CONTENT_OTHER;
}

static __always_inline enum content parse_ipv4(struct cursor *cursor, struct packet *packet)
{
	struct iphdr *ip = cursor->at;
	__u32 header, length;

	if ((void *)(ip + 1) > cursor->end)
		return CONTENT_UNKNOWN;
	packet->source[0] = ip->saddr;
	packet->destination[0] = ip->daddr;
	packet->protocol = ip->protocol;
	packet->traffic_class = ip->tos;
	header = ip->ihl * 4;
	length = host_length(ip->tot_len);
	if (ip->version != 4 || header < sizeof(*ip) || length < header ||
	    cursor->at + length > cursor->end)
		return CONTENT_MALFORMED;
	set_length(cursor, packet, length);
	if (unlikely(ip->frag_off & bpf_htons(IPV4_FRAGMENTED))) {
		if (cursor->plain)
			return CONTENT_FRAGMENT;
		packet->fragment_id = ip->id;
		packet->fragment = FRAGMENT_FIRST;
		if (ip->frag_off & bpf_htons(IPV4_OFFSET)) {
			packet->fragment = FRAGMENT_LATER;
			return CONTENT_FRAGMENT;
		}
	}
	advance(cursor, header);
	return parse_transport(cursor, packet);
}

/* Steps over hop-by-hop, routing and destination options headers: what is in them is for the
 * backend to judge.
 */
static __always_inline int skip_options(struct cursor *cursor, struct packet *packet)
{
	__u32 offset = 0;
	int i;

	/* An end, for the verifier as for us. What comes after it is no protocol that is served. */
#pragma clang loop unroll(disable)
	for (i = 0; i < MAX_OPTIONS; i++) {
		struct extension *extension = cursor->at + offset;

		if (packet->protocol != IPPROTO_HOPOPTS && packet->protocol != IPPROTO_ROUTING &&
		    packet->protocol != IPPROTO_DSTOPTS)
			break;
		if ((void *)(extension + 1) > cursor->end)
			return -1;
		packet->protocol = extension->next;
		offset += (extension->length + 1) * 8;
		if (offset > cursor->left)
			return -1;
	}
	advance(cursor, (offset + cursor->zero) & OPTIONS_MASK);
	/* One pointer: proven when the compiler computed it once, it would be read when twice. */
	asm volatile("" : "+r"(cursor->at));
	return 0;
}

/* Goes on to the transport header; behind a later fragment's header there is none. */
static __always_inline int skip_extensions(struct cursor *cursor, struct packet *packet)
{
	struct fragment_header *header;

	if (skip_options(cursor, packet))
		return -1;
	if (packet->protocol != IPPROTO_FRAGMENT)
		return 0;
	header = cursor->at;
	if (!has(cursor, sizeof(*header)))
		return -1;
	packet->protocol = header->next;
	packet->fragment_id = header->id;
	if (header->offset & bpf_htons(IPV6_OFFSET)) {
		packet->fragment = FRAGMENT_LATER;
		return 0;
	}
	if (header->offset & bpf_htons(IPV6_MORE_FRAGMENTS))
		packet->fragment = FRAGMENT_FIRST;
	advance(cursor, sizeof(*header));
	return skip_options(cursor, packet);
}

static __always_inline int is_extension(__u8 protocol)
{
	return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING ||
	       protocol == IPPROTO_DSTOPTS || protocol == IPPROTO_FRAGMENT;
}

static __always_inline enum content parse_ipv6(struct cursor *cursor, struct packet *packet)
{
	struct ipv6hdr *ip = cursor->at;
	__u32 length;

	if ((void *)(ip + 1) > cursor->end)
		return CONTENT_UNKNOWN;
	packet->ipv6 = 1;
	__builtin_memcpy(packet->source, &ip->saddr, sizeof(packet->source));
	__builtin_memcpy(packet->destination, &ip->daddr, sizeof(packet->destination));
	packet->protocol = ip->nexthdr;
	packet->traffic_class = ip->priority << 4 | ip->flow_lbl[0] >> 4;
	length = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	if (ip->version != 6 || length > 0xffff || cursor->at + length > cursor->end)
		return CONTENT_MALFORMED;
	set_length(cursor, packet, length);
	advance(cursor, sizeof(*ip));
	if (unlikely(is_extension(packet->protocol))) {
		if (cursor->plain)
			return CONTENT_OTHER;
		if (skip_extensions(cursor, packet))
			return CONTENT_MALFORMED;
		if (packet->fragment == FRAGMENT_LATER)
			return CONTENT_FRAGMENT;
	}
	return parse_transport(cursor, packet);
}

/* Steps over the tags; returns the type of what they stand in front of. */
static __always_inline __be16 skip_tags(struct cursor *cursor, struct packet *packet, __be16 type)
{
	struct tag *tag = cursor->at;
	int i;

	if (cursor->plain)
		return 0;
	for (i = 0; i < MAX_TAGS; i++) { /* a third one is no type that we know */
		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(tag + i + 1) > cursor->end)
			return 0; /* no type at all */
		type = tag[i].type;
	}
	packet->tags = (i + cursor->zero) & 3;
	cursor->at = tag + packet->tags;
	asm volatile("" : "+r"(cursor->at)); /* as in skip_options */
	return type;
}

static __always_inline enum content parse(struct cursor *cursor, struct packet *packet)
{
	struct ethernet *ethernet = cursor->at;
	__be16 type;

	if ((void *)(ethernet + 1) > cursor->end)
		return CONTENT_UNKNOWN;
	cursor->at = ethernet + 1;
	type = ethernet->type;
	if (unlikely(type != bpf_htons(ETH_P_IP) && type != bpf_htons(ETH_P_IPV6)))
		type = skip_tags(cursor, packet, type);
	if (type == bpf_htons(ETH_P_IP))
		return parse_ipv4(cursor, packet);
	if (type == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(cursor, packet);
	return CONTENT_UNKNOWN;
}

#endif
