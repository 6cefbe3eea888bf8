/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What stands in front of the program that is timed. The kernel's `repeat` runs a program again on
 * the packet as the last run left it: here every run gets a client's packet. The outer header comes
 * off, the Ethernet header goes back, the client becomes another one; then the tail call. Checksums
 * of the client's packet are not made right again: the balancer does not look at them.
 */
#include <uapi/linux/bpf.h>
#include <uapi/linux/if_ether.h>
#include <uapi/linux/in.h>
#include <uapi/linux/ip.h>
#include <uapi/linux/ipv6.h>
#include <uapi/linux/udp.h>

#define OUTER 20 /* bytes; what adjust_head costs does not depend on it */

struct run {
	__u64 random; /* never 0 */
	__u32 count;
	__u32 flows; /* a power of two, less one */
	__u32 shuffle; /* 0: the flows in turn; all ones: at random */
	__u32 length; /* of the client's frame */
	struct ethhdr ethernet;
	__u16 pad;
};

BPF_ARRAY(runs, struct run, 1);
BPF_PROG_ARRAY(programs, 3);

static __always_inline __u32 next_flow(struct run *run)
{
	__u64 random = run->random;

	random ^= random << 13;
	random ^= random >> 7;
	random ^= random << 17;
	run->random = random;
	run->count++;
	return (run->count + ((__u32)(random >> 32) & run->shuffle)) & run->flows;
}

static __always_inline int restore(struct xdp_md *ctx, const struct run *run)
{
	int pushed = (int)(ctx->data_end - ctx->data) - (int)run->length;

	return pushed ? bpf_xdp_adjust_head(ctx, pushed) : 0;
}

/* The client's address ends in the number of the flow, and its port goes with it. */
static __always_inline int write_client(struct xdp_md *ctx, const struct run *run, __u32 flow)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *ethernet = (void *)(long)ctx->data;
	struct ipv6hdr *ip6 = (void *)(ethernet + 1);
	struct iphdr *ip4 = (void *)(ethernet + 1);
	struct udphdr *ports; /* TCP's are in the same place */

	if ((void *)(ethernet + 1) > end)
		return -1;
	*ethernet = run->ethernet;
	if (run->ethernet.h_proto == bpf_htons(ETH_P_IPV6)) {
		ports = (void *)(ip6 + 1);
		if ((void *)(ports + 1) > end)
			return -1;
		ip6->saddr.s6_addr32[3] = bpf_htonl(flow);
	} else {
		ports = (void *)(ip4 + 1);
		if ((void *)(ports + 1) > end)
			return -1;
		ip4->saddr = bpf_htonl(100 << 24 | 64 << 16 | flow); /* 100.64.0.0/10 */
	}
	ports->source = bpf_htons(flow);
	return 0;
}

/* Makes the frame a client's; -1 when it cannot. */
static __always_inline int begin(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct run *run = runs.lookup(&zero);

	if (!run || restore(ctx, run))
		return -1;
	return write_client(ctx, run, next_flow(run));
}

/* One for each program: a constant index makes the tail call a jump. */
int time_balancer(struct xdp_md *ctx)
{
	if (!begin(ctx))
		programs.call(ctx, 0);
	return XDP_ABORTED;
}

int time_empty(struct xdp_md *ctx)
{
	if (!begin(ctx))
		programs.call(ctx, 1);
	return XDP_ABORTED;
}

int time_push(struct xdp_md *ctx)
{
	if (!begin(ctx))
		programs.call(ctx, 2);
	return XDP_ABORTED;
}

/* The empty program. */
int empty(struct xdp_md *ctx)
{
	return XDP_TX;
}

/* Nothing but room for an outer header, which the harness has to take back: half of what this costs
 * more than `empty` is the taking back.
 */
int push(struct xdp_md *ctx)
{
	return bpf_xdp_adjust_head(ctx, -OUTER) ? XDP_ABORTED : XDP_TX;
}
