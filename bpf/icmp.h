/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * ICMP and ICMPv6 to a service's address. An error goes where the flow goes that it is about: the
 * backend has to hear that its packets are too big, or come to nobody. An echo request is for the
 * address itself, and the node answers it.
 */
#ifndef L4LB_ICMP_H
#define L4LB_ICMP_H

#include "checksum.h"
#include "encap.h"
#include "maps.h"
#include "parse.h"
#include "services.h"
#include "steer.h"

#include <uapi/linux/icmp.h>
#include <uapi/linux/icmpv6.h>

#define NEIGHBOUR_DISCOVERY_FIRST 133 /* router solicitation (RFC 4861) */
#define NEIGHBOUR_DISCOVERY_LAST 137 /* redirect */

/* What both families' headers have in common. */
struct icmp_header {
	__u8 type;
	__u8 code;
	__sum16 check;
	__be32 rest;
};

/* --- errors --- */

static __always_inline int is_error(const struct packet *packet, __u8 type)
{
	if (packet->ipv6)
		return type >= ICMPV6_DEST_UNREACH && type <= ICMPV6_PARAMPROB;
	return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED ||
	       type == ICMP_PARAMETERPROB;
}

/* The embedded packet came from the service, so its ends are the flow's, exchanged. Its own length
 * is not looked at: it is cut off where the router thought best.
 */
static __always_inline int read_embedded_ports(struct cursor *cursor, struct packet *packet)
{
	struct ports *ports = cursor->at;

	if (packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP &&
	    packet->protocol != IPPROTO_SCTP)
		return -1;
	if (!has(cursor, sizeof(*ports)))
		return -1;
	packet->source_port = ports->destination;
	packet->destination_port = ports->source;
	packet->fragment = FRAGMENT_WHOLE; /* the error itself is */
	packet->error = 1;
	return 0;
}

static __always_inline int read_embedded_ipv4(struct cursor *cursor, struct packet *packet)
{
	struct iphdr *ip = cursor->at;
	__u32 header;

	if (!has(cursor, sizeof(*ip)))
		return -1;
	header = ip->ihl * 4;
	if (ip->version != 4 || header < sizeof(*ip) || cursor->left < header)
		return -1;
	if (ip->saddr != packet->destination[0] || ip->frag_off & bpf_htons(IPV4_OFFSET))
		return -1;
	packet->source[0] = ip->daddr;
	packet->protocol = ip->protocol;
	advance(cursor, header);
	return read_embedded_ports(cursor, packet);
}

static __always_inline int read_embedded_ipv6(struct cursor *cursor, struct packet *packet)
{
	struct ipv6hdr *ip = cursor->at;

	if (!has(cursor, sizeof(*ip)) || ip->version != 6)
		return -1;
	if (!is_same(ip->saddr.s6_addr32, packet->destination))
		return -1;
	__builtin_memcpy(packet->source, &ip->daddr, sizeof(packet->source));
	packet->protocol = ip->nexthdr;
	advance(cursor, sizeof(*ip));
	if (skip_extensions(cursor, packet) || packet->fragment == FRAGMENT_LATER)
		return -1;
	return read_embedded_ports(cursor, packet);
}

/* --- answers --- */

/* Nothing is answered that did not come from one host, or not to this node alone (RFC 1122, 3.2.2
 * and 3.3.6).
 */
static __always_inline int may_answer(const struct macs *macs, const struct packet *packet)
{
	__u8 first = *(const __u8 *)packet->source;

	if (*(const __u8 *)macs & 1) /* a group's */
		return 0;
	if (packet->ipv6)
		return first != 0xff && (packet->source[0] | packet->source[1] | packet->source[2]);
	return first != 0 && first != 127 && first < 224;
}

static __always_inline void exchange(struct macs *macs)
{
	__be16 *destination = (__be16 *)macs, *source = destination + 3;
	__be16 kept[3] = { destination[0], destination[1], destination[2] };

	destination[0] = source[0];
	destination[1] = source[1];
	destination[2] = source[2];
	source[0] = kept[0];
	source[1] = kept[1];
	source[2] = kept[2];
}

/* Sends an IP header back to where it came from, as a new packet: with a full TTL. */
static __always_inline int return_ipv4(struct iphdr *ip, void *end, const struct packet *packet)
{
	if ((void *)(ip + 1) > end)
		return -1;
	ip->saddr = packet->destination[0];
	ip->daddr = packet->source[0];
	ip->check = replace(ip->check, bpf_htons(ip->ttl << 8), bpf_htons(TTL << 8));
	ip->ttl = TTL;
	return 0;
}

static __always_inline int return_ipv6(struct ipv6hdr *ip, void *end, const struct packet *packet)
{
	if ((void *)(ip + 1) > end)
		return -1;
	__builtin_memcpy(&ip->saddr, packet->destination, sizeof(ip->saddr));
	__builtin_memcpy(&ip->daddr, packet->source, sizeof(ip->daddr));
	ip->hop_limit = TTL;
	return 0;
}

/* Makes the request its own reply: addresses exchanged, another type. The checksum changes by the
 * type alone; ~0 stands in for 0, because it is right even where all else in the message is 0.
 */
static __always_inline enum verdict answer_echo(struct xdp_md *ctx, struct cursor *cursor,
						const struct packet *packet)
{
	struct icmp_header *echo = cursor->at;
	struct ethernet *ethernet = (void *)(long)ctx->data;
	void *ip = (void *)(ethernet + 1) + packet->tags * sizeof(struct tag);
	__u8 reply = packet->ipv6 ? ICMPV6_ECHO_REPLY : ICMP_ECHOREPLY;

	/* The verifier has forgotten what has been proven of these. */
	if ((void *)(ethernet + 1) > cursor->end || (void *)(echo + 1) > cursor->end)
		return VERDICT_DROP_MALFORMED;
	if (!may_answer((struct macs *)ethernet, packet))
		return VERDICT_DROP_MALFORMED;
	if (packet->ipv6 ? return_ipv6(ip, cursor->end, packet)
			 : return_ipv4(ip, cursor->end, packet))
		return VERDICT_DROP_MALFORMED;
	exchange((struct macs *)ethernet);
	echo->check = replace(echo->check, bpf_htons(echo->type << 8), bpf_htons(reply << 8)) ?: ~0;
	echo->type = reply;
	return VERDICT_ANSWERED_ECHO;
}

/* --- the step --- */

/* Between neighbours: never routed, and the kernel's, whoever sends it. */
static __always_inline int is_discovery(struct cursor *cursor, const struct packet *packet)
{
	struct icmp_header *icmp = cursor->at;

	return packet->ipv6 && packet->fragment == FRAGMENT_WHOLE && has(cursor, sizeof(*icmp)) &&
	       icmp->type >= NEIGHBOUR_DISCOVERY_FIRST && icmp->type <= NEIGHBOUR_DISCOVERY_LAST;
}

static __always_inline enum verdict take_echo(struct xdp_md *ctx, struct cursor *cursor,
					      struct packet *packet, const struct settings *node)
{
	if (node->echo == ECHO_ANSWER)
		return answer_echo(ctx, cursor, packet);
	if (node->echo == ECHO_PASS)
		return VERDICT_PASS_UNSERVED;
	packet->echo = 1;
	return VERDICT_NONE;
}

/* Answers, or makes the packet out to be of the flow that an error is about. */
static __always_inline enum verdict take_icmp(struct xdp_md *ctx, struct cursor *cursor,
					      struct packet *packet, const struct settings *node)
{
	struct icmp_header *icmp = cursor->at;
	__u8 type;

	if (packet->fragment != FRAGMENT_WHOLE)
		return VERDICT_DROP_FRAGMENT;
	if (!has(cursor, sizeof(*icmp)))
		return VERDICT_DROP_MALFORMED;
	type = icmp->type;
	if (type == (packet->ipv6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO))
		return take_echo(ctx, cursor, packet, node);
	if (!is_error(packet, type))
		return unserved(node);
	advance(cursor, sizeof(*icmp));
	if (packet->ipv6 ? read_embedded_ipv6(cursor, packet) : read_embedded_ipv4(cursor, packet))
		return VERDICT_DROP_ICMP_ERROR;
	return VERDICT_NONE;
}

#endif
