/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The packet's way through a node, top to bottom. What is not addressed to a service goes to the
 * kernel untouched. docs/packet.md is the table of all that can happen.
 */
#include "maps.h"
#include "parse.h"
#include "flowhash.h"
#include "services.h"
#include "steer.h"
#include "quic.h"
#include "guard.h"
#include "fragments.h"
#include "icmp.h"
#include "forward.h"
#include "too_big.h"
#include "stats.h"
#include "trace.h"

/* What is counted and done in the end. */
struct outcome {
	__u32 length;
	__u32 interface;
};

/* Whose packet it is, by the maps that have all services; NULL: of an address of theirs, but of none.
 */
static __always_inline enum verdict search(const struct packet *packet, struct service **service)
{
	if (!may_be_ours(packet))
		return VERDICT_PASS_FOREIGN;
	*service = packet->echo ? NULL : find_service(packet, packet->destination_port);
	if (*service)
		return VERDICT_NONE;
	*service = find_address(packet);
	if (!*service)
		return VERDICT_PASS_FOREIGN;
	if (!packet->echo)
		*service = find_service(packet, ANY_PORT);
	return VERDICT_NONE;
}

/* Finds the flow's service, and its backend there. */
static __always_inline enum verdict choose(struct xdp_md *ctx, const struct cursor *cursor,
					   const struct packet *packet, const struct settings *node,
					   struct choice *choice)
{
	struct service found, *service = &found;
	enum verdict verdict;
	struct pool *pool;
	__u64 hash;

	if (packet->echo || !take_shortcut(packet, &found)) {
		verdict = search(packet, &service);
		if (verdict != VERDICT_NONE)
			return verdict;
	}
	if (unlikely(node->guards)) {
		verdict = ask_guards(ctx, node, packet, service, choice);
		if (verdict != VERDICT_NONE)
			return verdict;
	}
	if (unlikely(!service))
		return packet->error ? VERDICT_DROP_ICMP_ERROR : unserved(node);
	pool = pools.lookup(&service->pool);
	if (!pool)
		return VERDICT_DROP_NO_BACKEND;
	hash = identity_hash(packet, node->hash_seed, pool->identity);
	choice->label = hash;
	choice->service = service->id;
	choice->slot = slot_of(hash);
	if (unlikely(pool->server_id_length) && packet->protocol == IPPROTO_UDP) {
		if (cursor->plain)
			return VERDICT_RARE;
		choice->backend = steer_quic(cursor, packet, service->pool, pool);
	}
	if (choice->backend)
		choice->slot = NOBODY;
	else
		choice->backend = steer(ctx, packet, node, service->pool, pool, choice->slot);
	if (!choice->backend)
		return VERDICT_DROP_NO_BACKEND;
	if (packet->fragment == FRAGMENT_FIRST)
		remember_first(packet, choice);
	return VERDICT_NONE;
}

/* What nearly all packets are: TCP, UDP or SCTP and nothing around it. A copy of the way with nothing
 * on it for the others; those are left as they are, without a verdict.
 */
static __always_inline enum verdict take_plain(struct xdp_md *ctx, const struct settings *node,
					       struct outcome *outcome)
{
	struct cursor cursor = {
		.at = (void *)(long)ctx->data,
		.end = (void *)(long)ctx->data_end,
		.plain = 1,
	};
	struct packet packet = {};
	struct choice choice = {};
	enum verdict verdict;

	if (parse(&cursor, &packet) != CONTENT_FLOW)
		return VERDICT_NONE;
	verdict = choose(ctx, &cursor, &packet, node, &choice);
	if (verdict == VERDICT_NONE)
		verdict = forward(ctx, &packet, &choice, node);
	outcome->length = packet.length;
	outcome->interface = choice.interface;
	if (verdict == VERDICT_RARE || verdict == VERDICT_DROP_TOO_BIG)
		return VERDICT_NONE;
	return verdict;
}

/* Ends here, or goes on as part of the flow it belongs to. */
static __always_inline enum verdict resolve(struct xdp_md *ctx, struct cursor *cursor,
					    const struct settings *node, struct packet *packet,
					    struct choice *choice)
{
	enum content content = parse(cursor, packet);

	if (content == CONTENT_FLOW)
		return VERDICT_NONE;
	if (content == CONTENT_UNKNOWN || !is_service_address(packet) ||
	    (content == CONTENT_ICMP && is_discovery(cursor, packet)))
		return VERDICT_PASS_FOREIGN;
	if (is_denied(ctx, node, packet))
		return VERDICT_DROP_DENIED;
	switch (content) {
	case CONTENT_ICMP:
		return take_icmp(ctx, cursor, packet, node);
	case CONTENT_FRAGMENT:
		return follow_first(packet, choice);
	case CONTENT_MALFORMED:
		return VERDICT_DROP_MALFORMED;
	default:
		return unserved(node);
	}
}

/* Here the ways meet: see struct cursor. */
static __always_inline void blur(struct packet *packet, __u32 zero)
{
	packet->ipv6 += zero;
	packet->opens += zero;
	packet->fragment += zero;
	packet->error += zero;
	packet->echo += zero;
}

/* All that can be. */
static __always_inline enum verdict take_rare(struct xdp_md *ctx, const struct settings *node,
					      struct tracing *trace, struct outcome *outcome)
{
	struct cursor cursor = {
		.at = (void *)(long)ctx->data,
		.end = (void *)(long)ctx->data_end,
		.zero = node->zero,
	};
	struct packet packet = {};
	struct choice choice = { .service = NOBODY, .slot = NOBODY };
	enum verdict verdict = resolve(ctx, &cursor, node, &packet, &choice);

	blur(&packet, cursor.zero);
	if (verdict == VERDICT_NONE && !choice.backend)
		verdict = choose(ctx, &cursor, &packet, node, &choice);
	if (verdict == VERDICT_NONE)
		verdict = forward(ctx, &packet, &choice, node);
	if (verdict == VERDICT_DROP_TOO_BIG)
		verdict = answer_too_big(ctx, &packet, choice.mtu);
	if (unlikely(trace->until))
		report(trace, &packet, &choice, verdict);
	outcome->length = packet.length;
	outcome->interface = choice.interface;
	return verdict;
}

static __always_inline int action(enum verdict verdict, __u32 interface)
{
	switch (verdict) {
	case VERDICT_SENT:
	case VERDICT_ANSWERED_ECHO:
	case VERDICT_ANSWERED_TOO_BIG:
		return XDP_TX;
	case VERDICT_REDIRECTED:
		return bpf_redirect(interface, 0);
	case VERDICT_PASS_FOREIGN:
	case VERDICT_PASS_UNSERVED:
	case VERDICT_TO_KERNEL:
		return XDP_PASS;
	default:
		return XDP_DROP;
	}
}

int balancer(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct settings *node = settings.lookup(&zero);
	struct tracing *trace = tracing.lookup(&zero);
	struct outcome outcome = {};
	enum verdict verdict = VERDICT_NONE;

	if (!node || !trace) /* never: an array has its entry */
		return XDP_PASS;
	if (likely(!trace->until))
		verdict = take_plain(ctx, node, &outcome);
	if (unlikely(verdict == VERDICT_NONE))
		verdict = take_rare(ctx, node, trace, &outcome);
	count_verdict(verdict, outcome.length);
	return action(verdict, outcome.interface);
}
