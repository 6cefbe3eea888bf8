/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The first step: what the packet is. Nothing is read before it is proven to lie within the frame;
 * whatever is not plainly a TCP or UDP packet is answered with -1 and left to the kernel.
 */
#ifndef L4LB_PARSE_H
#define L4LB_PARSE_H

#include <uapi/linux/if_ether.h>
#include <uapi/linux/in.h>
#include <uapi/linux/ip.h>
#include <uapi/linux/ipv6.h>
#include <uapi/linux/tcp.h>
#include <uapi/linux/udp.h>

#define IPV4_DONT_FRAGMENT 0x4000
#define IPV4_FRAGMENTED 0x3fff /* more fragments, or an offset */

struct packet {
	__be32 source[4];
	__be32 destination[4];
	__be16 source_port;
	__be16 destination_port;
	__u16 length; /* of the IP packet, as its header says */
	__u8 protocol;
	__u8 ipv6;
	__u8 traffic_class; /* DSCP and ECN */
	__u8 opens; /* TCP SYN without ACK */
};

/* How far the frame has been read. */
struct cursor {
	void *at;
	void *end;
};

static __always_inline int parse_transport(struct cursor *cursor, struct packet *packet)
{
	struct tcphdr *tcp = cursor->at;
	struct udphdr *udp = cursor->at;

	if (packet->protocol == IPPROTO_TCP) {
		if ((void *)(tcp + 1) > cursor->end)
			return -1;
		packet->source_port = tcp->source;
		packet->destination_port = tcp->dest;
		packet->opens = tcp->syn && !tcp->ack;
		return 0;
	}
	if (packet->protocol == IPPROTO_UDP) {
		if ((void *)(udp + 1) > cursor->end)
			return -1;
		packet->source_port = udp->source;
		packet->destination_port = udp->dest;
		return 0;
	}
	return -1;
}

static __always_inline int parse_ipv4(struct cursor *cursor, struct packet *packet)
{
	struct iphdr *ip = cursor->at;
	__u32 header;

	if ((void *)(ip + 1) > cursor->end || ip->version != 4)
		return -1;
	header = ip->ihl * 4;
	packet->length = bpf_ntohs(ip->tot_len);
	if (header < sizeof(*ip) || packet->length < header ||
	    cursor->at + packet->length > cursor->end)
		return -1;
	if (ip->frag_off & bpf_htons(IPV4_FRAGMENTED))
		return -1;
	packet->source[0] = ip->saddr;
	packet->destination[0] = ip->daddr;
	packet->protocol = ip->protocol;
	packet->traffic_class = ip->tos;
	cursor->at += header;
	return parse_transport(cursor, packet);
}

static __always_inline int parse_ipv6(struct cursor *cursor, struct packet *packet)
{
	struct ipv6hdr *ip = cursor->at;
	__u32 length;

	if ((void *)(ip + 1) > cursor->end || ip->version != 6)
		return -1;
	length = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	if (length > 0xffff || cursor->at + length > cursor->end)
		return -1;
	packet->length = length;
	packet->ipv6 = 1;
	__builtin_memcpy(packet->source, &ip->saddr, sizeof(packet->source));
	__builtin_memcpy(packet->destination, &ip->daddr, sizeof(packet->destination));
	packet->protocol = ip->nexthdr;
	packet->traffic_class = ip->priority << 4 | ip->flow_lbl[0] >> 4;
	cursor->at = ip + 1;
	return parse_transport(cursor, packet);
}

static __always_inline int parse(struct xdp_md *ctx, struct packet *packet)
{
	struct cursor cursor = {
		.at = (void *)(long)ctx->data,
		.end = (void *)(long)ctx->data_end,
	};
	struct ethhdr *ethernet = cursor.at;

	if ((void *)(ethernet + 1) > cursor.end)
		return -1;
	cursor.at = ethernet + 1;
	if (ethernet->h_proto == bpf_htons(ETH_P_IP))
		return parse_ipv4(&cursor, packet);
	if (ethernet->h_proto == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(&cursor, packet);
	return -1;
}

#endif
