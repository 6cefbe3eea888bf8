/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A packet that would not fit when encapsulated is answered by what a router would say: IPv4
 * fragmentation needed (RFC 792, RFC 1191), ICMPv6 packet too big (RFC 4443), from the service's
 * address. IPv4 packets that may be fragmented are answered as well: XDP cannot fragment, and their
 * senders can.
 */
#ifndef L4LB_TOO_BIG_H
#define L4LB_TOO_BIG_H

#include "checksum.h"
#include "encap.h"
#include "icmp.h"
#include "steer.h"

/* What is quoted of the packet: in all not more than 576 bytes (RFC 1812) and 1280 (RFC 4443). */
#define QUOTED_IPV4 512
#define QUOTED_IPV6 1232

#define SUM_MAX 512 /* bytes that bpf_csum_diff takes at once */
#define ERRORS_PER_TICK 512 /* of each CPU: 950 a second */
#define INTERNETWORK_CONTROL 0xc0 /* the precedence of ICMP errors (RFC 1812, 4.3.2.5) */

static __always_inline int has_budget(void)
{
	__u32 zero = 0, now = now_tick();
	struct budget *budget = budgets.lookup(&zero);

	if (!budget)
		return 0;
	if (budget->tick != now) {
		budget->tick = now;
		budget->spent = 0;
	}
	if (budget->spent >= ERRORS_PER_TICK)
		return 0;
	budget->spent++;
	return 1;
}

/* Cuts the packet to what is quoted and makes room for the headers; NULL when it cannot be. */
static __always_inline void *quote(struct xdp_md *ctx, const struct packet *packet,
				   const struct link *link, __be16 type, int headers, int quoted)
{
	int length = ctx->data_end - ctx->data;
	int wanted = sizeof(struct ethernet) + packet->tags * sizeof(struct tag) + quoted;

	/* Else the compiler subtracts data_end from a number, which the verifier forbids. */
	asm volatile("" : "+r"(length));
	if (packet->length < quoted || bpf_xdp_adjust_tail(ctx, wanted - length))
		return NULL;
	return push(ctx, link, type, headers);
}

/* Writes the ICMP header; `sum` is that of what stands behind it and of a pseudo header. */
static __always_inline void write_icmp(struct icmp_header *icmp, __u8 type, __u8 code, __u32 rest,
				       __u64 sum)
{
	icmp->type = type;
	icmp->code = code;
	icmp->check = 0;
	icmp->rest = bpf_htonl(rest);
	icmp->check = fold(sum + *(__u32 *)icmp + icmp->rest);
}

static __always_inline int write_too_big_ipv4(struct xdp_md *ctx, const struct packet *packet,
					      const struct link *link, __u32 mtu)
{
	struct iphdr *ip;
	struct icmp_header *icmp;
	void *quoted;

	ip = quote(ctx, packet, link, bpf_htons(ETH_P_IP), sizeof(*ip) + sizeof(*icmp),
		   QUOTED_IPV4);
	icmp = (void *)(ip + 1);
	quoted = icmp + 1;
	if (!ip || quoted + QUOTED_IPV4 > (void *)(long)ctx->data_end)
		return -1;
	write_ipv4(ip, INTERNETWORK_CONTROL, IPPROTO_ICMP, sizeof(*icmp) + QUOTED_IPV4,
		   packet->destination[0], packet->source[0]);
	write_icmp(icmp, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, mtu,
		   (__u32)bpf_csum_diff(NULL, 0, quoted, QUOTED_IPV4, 0));
	return 0;
}

static __always_inline int write_too_big_ipv6(struct xdp_md *ctx, const struct packet *packet,
					      const struct link *link, __u32 mtu)
{
	__u32 length = sizeof(struct icmp_header) + QUOTED_IPV6;
	struct ipv6hdr *ip;
	struct icmp_header *icmp;
	void *quoted;
	__u64 sum;

	ip = quote(ctx, packet, link, bpf_htons(ETH_P_IPV6), sizeof(*ip) + sizeof(*icmp),
		   QUOTED_IPV6);
	icmp = (void *)(ip + 1);
	quoted = icmp + 1;
	if (!ip || quoted + QUOTED_IPV6 > (void *)(long)ctx->data_end)
		return -1;
	write_ipv6(ip, 0, 0, IPPROTO_ICMPV6, length, packet->destination, packet->source);
	sum = (__u64)bpf_htonl(length) + bpf_htonl(IPPROTO_ICMPV6);
	sum += (__u32)bpf_csum_diff(NULL, 0, (void *)&ip->saddr, 2 * sizeof(ip->saddr), 0);
	sum += (__u32)bpf_csum_diff(NULL, 0, quoted, SUM_MAX, 0);
	sum += (__u32)bpf_csum_diff(NULL, 0, quoted + SUM_MAX, SUM_MAX, 0);
	sum += (__u32)bpf_csum_diff(NULL, 0, quoted + 2 * SUM_MAX, QUOTED_IPV6 - 2 * SUM_MAX, 0);
	write_icmp(icmp, ICMPV6_PKT_TOOBIG, 0, mtu, sum);
	return 0;
}

/* No error is sent about an error or a later fragment (RFC 1122, 3.2.2). */
static __always_inline enum verdict answer_too_big(struct xdp_md *ctx, const struct packet *packet,
						   __u32 mtu)
{
	struct link link = {};

	if (packet->error || packet->fragment == FRAGMENT_LATER)
		return VERDICT_DROP_TOO_BIG;
	if (read_link(ctx, packet, &link) || !may_answer(&link.macs, packet) || !has_budget())
		return VERDICT_DROP_TOO_BIG;
	exchange(&link.macs);
	if (packet->ipv6 ? write_too_big_ipv6(ctx, packet, &link, mtu)
			 : write_too_big_ipv4(ctx, packet, &link, mtu))
		return VERDICT_DROP_TOO_BIG;
	return VERDICT_ANSWERED_TOO_BIG;
}

#endif
