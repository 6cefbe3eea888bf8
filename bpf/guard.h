/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Who may not come in: sources that the fleet denies, sources that a service does not allow, more new
 * flows than it shall get. Only packets to a service's address are asked about, and only where there
 * is anything to ask: settings.guards lies in a line that every packet reads.
 */
#ifndef L4LB_GUARD_H
#define L4LB_GUARD_H

#include "maps.h"
#include "parse.h"
#include "steer.h"

static __always_inline int is_on(const struct settings *node, enum guard guard)
{
	return node->guards & 1 << guard;
}

static __always_inline int is_in_deny(const struct packet *packet)
{
	if (packet->ipv6) {
		struct deny6_key key = { .length = 128 };

		__builtin_memcpy(key.address, packet->source, sizeof(key.address));
		return deny6.lookup(&key) != NULL;
	} else {
		struct deny4_key key = { .length = 32, .address = packet->source[0] };

		return deny4.lookup(&key) != NULL;
	}
}

static __always_inline int is_in_allow(const struct packet *packet, __u32 service)
{
	if (packet->ipv6) {
		struct allow6_key key = { .length = 160, .service = service };

		__builtin_memcpy(key.address, packet->source, sizeof(key.address));
		return allow6.lookup(&key) != NULL;
	} else {
		struct allow4_key key = {
			.length = 64,
			.service = service,
			.address = packet->source[0],
		};

		return allow4.lookup(&key) != NULL;
	}
}

/* Whether a packet that is none of a flow comes from a source that is denied. */
static __always_inline int is_denied(struct xdp_md *ctx, const struct settings *node,
				     const struct packet *packet)
{
	return is_on(node, GUARD_DENY) && is_in_deny(packet) && !is_proof(ctx);
}

/* What the service itself says. An ICMP error is one of its flow: of the client's address. */
static __always_inline enum verdict guard_service(const struct packet *packet, __u32 service)
{
	struct service_guard *guard = service_guards.lookup(&service);
	struct guard_state *state = guard_states.lookup(&service);

	if (!guard || !state)
		return VERDICT_NONE;
	if (guard->allow && !is_in_allow(packet, service)) {
		state->not_allowed++;
		return VERDICT_DROP_NOT_ALLOWED;
	}
	if (packet->opens && guard->interval && !take_token(&state->due, guard->interval)) {
		state->limited++;
		return VERDICT_DROP_LIMITED;
	}
	return VERDICT_NONE;
}

/* Whether a packet to a service's address may go on; `service` is NULL where none has its port. */
static __always_inline enum verdict ask_guards(struct xdp_md *ctx, const struct settings *node,
					       const struct packet *packet,
					       const struct service *service, struct choice *choice)
{
	if (is_proof(ctx))
		return VERDICT_NONE;
	if (is_on(node, GUARD_DENY) && is_in_deny(packet))
		return VERDICT_DROP_DENIED;
	if (!service || !is_on(node, GUARD_SERVICES))
		return VERDICT_NONE;
	choice->service = service->id;
	return guard_service(packet, service->id);
}

#endif
