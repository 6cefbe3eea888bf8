/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A health probe takes a client's way: a packet that this node itself sends to a service's address is
 * wrapped for the one backend that its socket's mark names. Attached to routes (LWT_XMIT), so the
 * kernel has made the whole IP packet, and routes it anew by its outer header.
 */
#include "encap.h"
#include "maps.h"

/* A mark of ours is 0x4c34, "L4", and the index of a backend. */
#define MARK 0x4c340000
#define MARK_INDEX 0x0000ffff

static __always_inline int has_mark(__u32 mark)
{
	return (mark & ~MARK_INDEX) == MARK;
}

/* The kernel takes a packet that is still to be cut into segments only when the header announces
 * IPv6, although it can cut both (handle_gso_encap compares with IPPROTO_IP where IPIP is meant). So
 * the right protocol is put in afterwards; the checksum has been right all along.
 */
static __always_inline long push_outer(struct __sk_buff *skb, void *outer, __u32 length,
				       __u8 *protocol, __u32 offset)
{
	__u8 inner = *protocol;

	*protocol = IPPROTO_IPV6;
	if (bpf_lwt_push_encap(skb, BPF_LWT_ENCAP_IP, outer, length))
		return -1;
	return bpf_skb_store_bytes(skb, offset, &inner, sizeof(inner), 0);
}

/* An outer header with UDP behind it, as bytes in a row. */
struct outer4 {
	struct iphdr ip;
	struct udphdr udp;
};

struct outer6 {
	struct ipv6hdr ip;
	struct udphdr udp;
};

/* Over IPv6 the kernel itself writes the checksums of segments that are still to be cut, and wants
 * to find the pseudo header's sum.
 */
static __always_inline __sum16 probe_checksum(struct __sk_buff *skb, const struct outer6 *outer,
					      const struct backend *backend, const __be32 *source)
{
	if (skb->gso_size)
		return ~fold(pseudo_sum(&outer->udp, source, backend->address));
	return gue_checksum(&outer->udp, source, backend->address, (void *)(long)skb->data,
			    (void *)(long)skb->data_end, skb->protocol == bpf_htons(ETH_P_IPV6));
}

static __always_inline long wrap_gue(struct __sk_buff *skb, const struct backend *backend,
				     const struct settings *node)
{
	__u32 label = bpf_get_hash_recalc(skb), length = skb->len + sizeof(struct udphdr);
	struct outer6 outer6 = {};
	struct outer4 outer4 = {};
	struct address6 source;

	if (backend->ipv6) {
		source = source6(&node->outer, label);
		write_ipv6(&outer6.ip, 0, label, IPPROTO_UDP, length, source.words,
			   backend->address);
		write_gue(&outer6.udp, label, node->gue_port, skb->len);
		outer6.udp.check = probe_checksum(skb, &outer6, backend, source.words);
		return bpf_lwt_push_encap(skb, BPF_LWT_ENCAP_IP, &outer6, sizeof(outer6));
	}
	write_ipv4(&outer4.ip, 0, IPPROTO_UDP, length, source4(&node->outer, label),
		   backend->address[0]);
	write_gue(&outer4.udp, label, node->gue_port, skb->len);
	return bpf_lwt_push_encap(skb, BPF_LWT_ENCAP_IP, &outer4, sizeof(outer4));
}

/* The outer headers of encap.h, but that nothing is copied outwards: DSCP and ECN are 0. */
static __always_inline long wrap(struct __sk_buff *skb, const struct backend *backend,
				 const struct settings *node)
{
	__u8 inner = skb->protocol == bpf_htons(ETH_P_IPV6) ? IPPROTO_IPV6 : IPPROTO_IPIP;
	__u32 label = bpf_get_hash_recalc(skb);
	struct ipv6hdr outer6 = {};
	struct iphdr outer4 = {};
	struct address6 source;

	if (backend->forwarding == FORWARDING_GUE)
		return wrap_gue(skb, backend, node);
	if (backend->ipv6) {
		source = source6(&node->outer, label);
		write_ipv6(&outer6, 0, label, inner, skb->len, source.words, backend->address);
		return push_outer(skb, &outer6, sizeof(outer6), &outer6.nexthdr,
				  offsetof(struct ipv6hdr, nexthdr));
	}
	write_ipv4(&outer4, 0, inner, skb->len, source4(&node->outer, label), backend->address[0]);
	return push_outer(skb, &outer4, sizeof(outer4), &outer4.protocol,
			  offsetof(struct iphdr, protocol));
}

int probe(struct __sk_buff *skb)
{
	__u32 zero = 0, index = skb->mark & MARK_INDEX;
	struct settings *node = settings.lookup(&zero);
	struct backend *backend = backends.lookup(&index);

	if (!has_mark(skb->mark) || !node || !backend || backend->state == STATE_UNUSED)
		return BPF_DROP;
	if (!(backend->ipv6 ? node->own.ipv6[0] : node->own.ipv4))
		return BPF_DROP;
	if (wrap(skb, backend, node))
		return BPF_DROP;
	/* What comes here again has no mark, and is dropped. */
	skb->mark = 0;
	return BPF_LWT_REROUTE;
}
