/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Whose packet it is: the service of its address, protocol and port, else that of any port. What is
 * to no service's address is known by one bit, nearly always, and settled traffic after one lookup.
 */
#ifndef L4LB_SERVICES_H
#define L4LB_SERVICES_H

#include "flowhash.h"
#include "maps.h"
#include "parse.h"

#define ANY_PORT 0
#define FILTER_MULTIPLIER 0xff51afd7ed558ccdULL

/* Whether the packet's destination can be a service's address: 0 is sure, _filter.py computes the same.
 * No seed: a bit's place must be the same for whoever sets it and whoever asks, at any time.
 */
static __always_inline int may_be_ours(const struct packet *packet)
{
	const __be32 *to = packet->destination;
	/* What differs most where it spreads best: low. */
	__u64 high = le_word(to[0]) | le_word(to[1]) << 32;
	__u64 low = le_word(to[3]) | le_word(to[2]) << 32;
	__u64 hash = high * HASH_MULTIPLIER + low * FILTER_MULTIPLIER;
	__u32 bit = ((hash ^ hash << 32) >> 32) * FILTER_BITS >> 32; /* both halves */
	__u32 index = bit / 64;
	__u64 *word = address_filter.lookup(&index);

	return word && *word >> bit % 64 & 1;
}

static __always_inline struct service *find_service(const struct packet *packet, __be16 port)
{
	if (packet->ipv6) {
		struct service6_key key = { .port = port, .protocol = packet->protocol };

		__builtin_memcpy(key.address, packet->destination, sizeof(key.address));
		return services6.lookup(&key);
	} else {
		struct service4_key key = {
			.address = packet->destination[0],
			.port = port,
			.protocol = packet->protocol,
		};

		return services4.lookup(&key);
	}
}

/* The first service of its address, whatever the port. */
static __always_inline struct service *find_address(const struct packet *packet)
{
	if (packet->ipv6) {
		struct address6 key;

		__builtin_memcpy(key.words, packet->destination, sizeof(key.words));
		return addresses6.lookup(&key);
	} else {
		__be32 key = packet->destination[0];

		return addresses4.lookup(&key);
	}
}

static __always_inline int is_service_address(const struct packet *packet)
{
	return may_be_ours(packet) && find_address(packet);
}

/* What is for none of an address' services. */
static __always_inline enum verdict unserved(const struct settings *node)
{
	return node->other_ports == OTHER_PORTS_PASS ? VERDICT_PASS_UNSERVED
						     : VERDICT_DROP_UNSERVED;
}

#endif
