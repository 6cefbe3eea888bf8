/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Counters, each CPU its own. Every verdict has one.
 */
#ifndef L4LB_STATS_H
#define L4LB_STATS_H

#include "maps.h"
#include "steer.h"

static __always_inline void add(struct counter *counter, __u32 bytes)
{
	if (!counter)
		return;
	counter->packets++;
	counter->bytes += bytes;
}

static __always_inline void count_verdict(enum verdict verdict, __u32 bytes)
{
	__u32 index = verdict;

	add(verdicts.lookup(&index), bytes);
}

static __always_inline void count_forwarded(const struct packet *packet, struct choice *choice)
{
	struct service_counter *service = service_counters.lookup(&choice->service);

	if (service) { /* always */
		service->packets++;
		service->bytes += packet->length;
		service->opens += packet->opens;
	}
	add(backend_counters.lookup(&choice->backend), packet->length);
}

#endif
