/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Whose packet it is: the service of its address, protocol and port, else that of any port. What is
 * to no service's address is known by one bit, nearly always, and settled traffic needs no search.
 */
#ifndef L4LB_SERVICES_H
#define L4LB_SERVICES_H

#include "flowhash.h"
#include "maps.h"
#include "parse.h"

#define ANY_PORT 0
#define FILTER_MULTIPLIER 0xff51afd7ed558ccdULL

/* Of the packet's destination, without a seed: the place of an address must be the same for whoever
 * writes there and whoever asks, at any time. _filter.py and _shortcuts.py compute the same.
 */
static __always_inline __u64 address_hash(const struct packet *packet)
{
	const __be32 *to = packet->destination;
	/* What differs most where it spreads best: low. */
	__u64 high = le_word(to[0]) | le_word(to[1]) << 32;
	__u64 low = le_word(to[3]) | le_word(to[2]) << 32;
	__u64 hash = high * HASH_MULTIPLIER + low * FILTER_MULTIPLIER;

	return hash ^ hash << 32; /* the upper half is of both halves */
}

/* Whether the packet's destination can be a service's address: 0 is sure. */
static __always_inline int may_be_ours(const struct packet *packet)
{
	__u32 bit = (address_hash(packet) >> 32) * FILTER_BITS >> 32;
	__u32 index = bit / 64;
	__u64 *word = address_filter.lookup(&index);

	return word && *word >> bit % 64 & 1;
}

/* The service at the packet's place, where it is the packet's own. Whoever writes meanwhile takes
 * another turn before and after the rest: what is read between two looks at the same is of one piece.
 */
static __always_inline int take_shortcut(const struct packet *packet, struct service *service)
{
	__u64 port_and_protocol = le_word(packet->destination_port) | (__u64)packet->protocol << 16;
	__u64 hash = address_hash(packet) + port_and_protocol * HASH_MULTIPLIER;
	__u32 index = (hash >> 32) * SHORTCUTS >> 32;
	const volatile __u64 *words = (void *)shortcuts.lookup(&index);
	__u64 address[2], kind_word, service_word;
	struct shortcut_kind kind;

	if (!words)
		return 0;
	kind_word = words[2];
	__builtin_memcpy(&kind, &kind_word, sizeof(kind));
	__builtin_memcpy(address, packet->destination, sizeof(address));
	if (kind.port != packet->destination_port || kind.protocol != packet->protocol ||
	    kind.family != (packet->ipv6 ? 6 : 4) || words[0] != address[0] ||
	    words[1] != address[1])
		return 0;
	service_word = words[3];
	__builtin_memcpy(service, &service_word, sizeof(*service));
	return words[2] == kind_word;
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
