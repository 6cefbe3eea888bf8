/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What became of single packets, told to whoever asks (_trace.py). While somebody does, every packet
 * takes the way for rare ones, which ends here: the plain way asks for a word, and knows no more of it.
 */
#ifndef L4LB_TRACE_H
#define L4LB_TRACE_H

#include "maps.h"
#include "parse.h"
#include "steer.h"

/* A reader that lives puts the end off. When one has died, the first packet after it switches off. */
static __always_inline int is_over(struct tracing *trace)
{
	if (age(trace->until, now_tick()) <= 0)
		return 0;
	trace->until = 0;
	return 1;
}

static __always_inline int is_from(const struct tracing *trace, const struct packet *packet)
{
	const __be32 *source = packet->source;

	if (trace->family && trace->family != (packet->ipv6 ? 6 : 4))
		return 0;
	return !(((source[0] & trace->mask[0]) ^ trace->source[0]) |
		 ((source[1] & trace->mask[1]) ^ trace->source[1]) |
		 ((source[2] & trace->mask[2]) ^ trace->source[2]) |
		 ((source[3] & trace->mask[3]) ^ trace->source[3]));
}

static __always_inline int is_asked_for(const struct tracing *trace, const struct packet *packet,
					const struct choice *choice, enum verdict verdict)
{
	if (trace->verdict != VERDICT_COUNT && trace->verdict != verdict)
		return 0;
	if (trace->service != NOBODY && trace->service != choice->service)
		return 0;
	if (!is_from(trace, packet))
		return 0;
	/* Not every so manieth: packets can come in a rhythm. */
	return trace->sample <= 1 || (__u64)bpf_get_prandom_u32() * trace->sample >> 32 == 0;
}

static __always_inline void report(struct tracing *trace, const struct packet *packet,
				   const struct choice *choice, enum verdict verdict)
{
	__u32 zero = 0;
	struct trace_event *event;
	__u64 *lost;

	if (is_over(trace) || !is_asked_for(trace, packet, choice, verdict))
		return;
	event = trace_events.ringbuf_reserve(sizeof(*event));
	if (!event) {
		lost = trace_lost.lookup(&zero);
		if (lost)
			lock_xadd(lost, 1);
		return;
	}
	event->time = bpf_ktime_get_ns();
	__builtin_memcpy(event->source, packet->source, sizeof(event->source));
	__builtin_memcpy(event->destination, packet->destination, sizeof(event->destination));
	event->source_port = packet->source_port;
	event->destination_port = packet->destination_port;
	event->session = trace->session;
	event->service = choice->service;
	event->slot = choice->slot;
	event->backend = choice->backend;
	event->length = packet->length;
	event->protocol = packet->protocol;
	event->ipv6 = packet->ipv6;
	event->verdict = verdict;
	event->error = packet->error;
	trace_events.ringbuf_submit(event, 0);
}

#endif
