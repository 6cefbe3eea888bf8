/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Which backend gets the packet: the ring that remembers. A settled slot answers alone; the flow
 * table is asked only in slots that have changed, where flows older than the change stay with
 * `previous` (docs/steering.md).
 */
#ifndef L4LB_STEER_H
#define L4LB_STEER_H

#include "flowhash.h"
#include "maps.h"

/* What has been decided about a packet. */
struct choice {
	__u32 backend; /* index; 0: nobody yet */
	__u32 service;
	__u32 slot;
	__u32 label; /* the flow's hash, as the outer header shows it */
	__u32 interface; /* where it goes out */
	__u32 mtu; /* what of it would have fitted, when it does not */
};

#define SECOND 1000000000ULL /* ns */
#define PROOF 0x6c346c62 /* "l4lb" */

/* The next step goes on. */
#define VERDICT_NONE VERDICT_COUNT
/* The plain way ends here, and the rare one begins. */
#define VERDICT_RARE (VERDICT_COUNT + 1)

/* The clock as of the last jiffy: to read the hardware's costs 20 ns, and a tick has no use for it. */
static __always_inline __u32 now_tick(void)
{
	return bpf_ktime_get_coarse_ns() >> TICK_SHIFT;
}

/* Ticks since `then`. Below 0 when another CPU, or whoever wrote the ring, has read the clock later
 * than this one: without a sign that would be an age of 73 years.
 */
static __always_inline __s32 age(__u32 then, __u32 now)
{
	return now - then;
}

static __always_inline struct flow4_key flow4_key(const struct packet *packet)
{
	struct flow4_key key = {
		.source = packet->source[0],
		.destination = packet->destination[0],
		.source_port = packet->source_port,
		.destination_port = packet->destination_port,
		.protocol = packet->protocol,
	};

	return key;
}

static __always_inline struct flow6_key flow6_key(const struct packet *packet)
{
	struct flow6_key key = {
		.source_port = packet->source_port,
		.destination_port = packet->destination_port,
		.protocol = packet->protocol,
	};

	__builtin_memcpy(key.source, packet->source, sizeof(key.source));
	__builtin_memcpy(key.destination, packet->destination, sizeof(key.destination));
	return key;
}

static __always_inline struct flow *find_flow(const struct packet *packet)
{
	if (packet->ipv6) {
		struct flow6_key key = flow6_key(packet);

		return flows6.lookup(&key);
	} else {
		struct flow4_key key = flow4_key(packet);

		return flows4.lookup(&key);
	}
}

static __always_inline void record_flow(const struct packet *packet, __u32 backend, __u32 now)
{
	struct flow flow = { .backend = backend, .seen = now };

	if (packet->ipv6) {
		struct flow6_key key = flow6_key(packet);

		flows6.update(&key, &flow);
	} else {
		struct flow4_key key = flow4_key(packet);

		flows4.update(&key, &flow);
	}
}

/* Whether a backend keeps the flows it has. */
static __always_inline int lives(__u32 index)
{
	struct backend *backend = backends.lookup(&index);

	if (!backend || backend->health != HEALTH_UP)
		return 0;
	return backend->state == STATE_ACTIVE || backend->state == STATE_DRAINING;
}

/* Whether the flow of a record can still go on. The slot may have settled since, and the same
 * five-tuple begun again, unrecorded, on another backend.
 */
static __always_inline int is_current(const struct flow *flow, const struct pool *pool, __u32 now)
{
	return age(flow->seen, now) <= (__s32)pool->settle;
}

/* Who gets a flow that the table does not know: flows older than the change belong to `previous`.
 * TCP and SCTP show their beginning; a UDP flow that stayed silent throughout the transition counts
 * as new.
 */
static __always_inline __u32 steer_unknown(const struct packet *packet, const struct pool *pool,
					   const struct slot *slot, __u32 now)
{
	if (!slot->previous || packet->opens)
		return slot->current;
	if (packet->protocol == IPPROTO_UDP &&
	    age(slot->tracked, now) > (__s32)pool->udp_transition)
		return slot->current;
	return lives(slot->previous) ? slot->previous : slot->current;
}

/* Whether the node itself runs this packet to prove a service, BPF_PROG_TEST_RUN with metadata in
 * front of the frame: nothing that comes off a wire has any. It is about the way to the backend, and
 * must not fail for a source that is denied, or while the service or the flow table is flooded.
 */
static __always_inline int is_proof(struct xdp_md *ctx)
{
	__u32 *mark = (void *)(long)ctx->data_meta;

	return (void *)(mark + 1) <= (void *)(long)ctx->data && *mark == PROOF;
}

/* Takes one of what comes at most every `interval` ns; a second's worth may come at once. `due` is
 * when nothing of that will be owed any more: for a rate, one number and no division.
 */
static __always_inline int take_token(__u64 *due, __u64 interval)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	__u64 burst = interval > SECOND ? interval : SECOND;
	__u64 next = (*due > now ? *due : now) + interval;

	if (next > now + burst)
		return 0;
	*due = next;
	return 1;
}

/* Whether the flow may be recorded: more than so many new records a second fill the table with what a
 * flood brings. One that has a record may always have another in its place.
 */
static __always_inline int may_record(struct xdp_md *ctx, const struct packet *packet,
				      const struct settings *node)
{
	__u32 zero = 0;
	struct record_state *state = record_states.lookup(&zero);

	if (!state || is_proof(ctx) || find_flow(packet) ||
	    take_token(&state->due, node->record_interval))
		return 1;
	state->refused++;
	return 0;
}

static __always_inline __u32 steer_tracked(struct xdp_md *ctx, const struct packet *packet,
					   const struct settings *node, const struct pool *pool,
					   const struct slot *slot)
{
	__u32 now = now_tick();
	__u32 backend;
	struct flow *flow;

	flow = packet->opens ? NULL : find_flow(packet);
	if (flow && is_current(flow, pool, now) && lives(flow->backend)) {
		/* A write a tick, not a packet: the line stays shared. */
		if (age(flow->seen, now) > 0 && !packet->error)
			flow->seen = now;
		return flow->backend;
	}
	backend = steer_unknown(packet, pool, slot, now);
	if (!backend || packet->error)
		return backend;
	/* Not known, its next packets will count as older than the change: so does this one. */
	if (unlikely(node->record_interval) && !may_record(ctx, packet, node))
		return packet->opens && lives(slot->previous) ? slot->previous : backend;
	record_flow(packet, backend, now);
	return backend;
}

/* Which slot of a ring a hash picks. */
static __always_inline __u32 slot_of(__u64 hash)
{
	return (hash >> 32) * RING_SIZE >> 32;
}

/* The index of the packet's backend, 0 when there is none; `index` is the slot. */
static __always_inline __u32 steer(struct xdp_md *ctx, const struct packet *packet,
				   const struct settings *node, __u32 pool_id,
				   const struct pool *pool, __u32 index)
{
	void *ring = rings.lookup(&pool_id);
	struct slot *slot;

	if (!ring)
		return 0;
	slot = bpf_map_lookup_elem(ring, &index);
	if (!slot)
		return 0;
	if (pool->tracking == TRACKING_NEVER || packet->echo)
		return slot->current;
	if (!slot->tracked && pool->tracking == TRACKING_ADAPTIVE)
		return slot->current;
	return steer_tracked(ctx, packet, node, pool, slot);
}

#endif
