/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Later fragments have no ports: they follow the first of their datagram, which had them. Steering
 * all fragments by addresses alone would need no memory, but would tear the first one, and with it
 * the datagram, away from the flow it belongs to.
 */
#ifndef L4LB_FRAGMENTS_H
#define L4LB_FRAGMENTS_H

#include "maps.h"
#include "parse.h"
#include "steer.h"

#define FRAGMENT_LIFETIME 56 /* ticks, 30 s: as long as Linux waits for the rest */

static __always_inline struct fragment_key fragment_key(const struct packet *packet)
{
	struct fragment_key key = {
		.id = packet->fragment_id,
		.protocol = packet->ipv6 ? IPPROTO_FRAGMENT : packet->protocol,
	};

	__builtin_memcpy(key.source, packet->source, sizeof(key.source));
	__builtin_memcpy(key.destination, packet->destination, sizeof(key.destination));
	return key;
}

static __always_inline void remember_first(const struct packet *packet, const struct choice *choice)
{
	struct fragment_key key = fragment_key(packet);
	struct fragment_record record = {
		.backend = choice->backend,
		.service = choice->service,
		.label = choice->label,
		.seen = now_tick(),
	};

	fragments.update(&key, &record);
}

/* The choice that was made for the first fragment. */
static __always_inline enum verdict follow_first(const struct packet *packet, struct choice *choice)
{
	struct fragment_key key = fragment_key(packet);
	struct fragment_record *record = fragments.lookup(&key);

	if (!record || age(record->seen, now_tick()) > FRAGMENT_LIFETIME || !lives(record->backend))
		return VERDICT_DROP_FRAGMENT;
	choice->backend = record->backend;
	choice->service = record->service;
	choice->label = record->label;
	return VERDICT_NONE;
}

#endif
