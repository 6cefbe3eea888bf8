/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Whose packet it is: the service of its address, protocol and port, else that of any port. What is
 * to no service's address is known after two lookups, and settled traffic after one.
 */
#ifndef L4LB_SERVICES_H
#define L4LB_SERVICES_H

#include "maps.h"
#include "parse.h"

#define ANY_PORT 0

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
	return find_address(packet) != NULL;
}

/* What is for none of an address' services. */
static __always_inline enum verdict unserved(const struct settings *node)
{
	return node->other_ports == OTHER_PORTS_PASS ? VERDICT_PASS_UNSERVED
						     : VERDICT_DROP_UNSERVED;
}

#endif
