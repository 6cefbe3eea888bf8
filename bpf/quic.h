/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * QUIC by connection id: servers put a number of theirs into the ids that they issue, in the clear
 * (draft-ietf-quic-load-balancers-21, 5.2, without a key: 3 bits of configuration, 5 that are the
 * server's, its number, a nonce). So a packet finds its server when the client's address has changed,
 * and when the ring has. The first packets of a connection have an id that the client made up: those,
 * and what has no known id, go by the flow's hash. docs/steering.md.
 */
#ifndef L4LB_QUIC_H
#define L4LB_QUIC_H

#include "maps.h"
#include "parse.h"
#include "steer.h"

#define QUIC_LONG 0x80 /* header form (RFC 8999) */
#define QUIC_FIXED 0x40 /* set but where it is greased (RFC 9287), which is then by hash */
#define QUIC_TYPE 0x30
#define QUIC_V1 0x00000001
#define QUIC_V1_HANDSHAKE 0x20
#define QUIC_V2 0x6b3343cf
#define QUIC_V2_HANDSHAKE 0x30
#define QUIC_ID_AT 6 /* in a long header, behind version and length */

#define SERVER_ID_MAX 8
#define ROTATION_SHIFT 5 /* of the configuration, in an id's first octet */

/* Where in a datagram the connection id stands that a server has issued; 0: nowhere. `length` is what
 * a long header says of it; a short one has no room for less than is looked at.
 */
static __always_inline __u32 find_id(const __u8 *quic, __u32 *length)
{
	__be32 version;
	__u8 handshake;

	*length = 1 + SERVER_ID_MAX;
	if (!(*quic & QUIC_LONG))
		return *quic & QUIC_FIXED ? 1 : 0;
	__builtin_memcpy(&version, quic + 1, sizeof(version));
	if (version == bpf_htonl(QUIC_V1))
		handshake = QUIC_V1_HANDSHAKE;
	else if (version == bpf_htonl(QUIC_V2))
		handshake = QUIC_V2_HANDSHAKE;
	else
		return 0;
	*length = quic[QUIC_ID_AT - 1];
	return (*quic & QUIC_TYPE) == handshake ? QUIC_ID_AT : 0;
}

/* The backend that the connection id names; 0: it goes by hash, and `kind` says why. */
static __always_inline __u32 find_server(const struct cursor *cursor, __u32 pool_id,
					 const struct pool *pool, enum quic *kind)
{
	const __u8 *quic = cursor->at + sizeof(struct udphdr);
	struct server_key key = { .pool = pool_id };
	__u32 *backend, at, length;
	int i;

	*kind = QUIC_BY_HASH;
	/* No packet of QUIC is shorter than all that is looked at. */
	if (!has(cursor, sizeof(struct udphdr) + QUIC_ID_AT + 1 + SERVER_ID_MAX))
		return 0;
	at = find_id(quic, &length);
	if (!at)
		return 0;
	*kind = QUIC_UNKNOWN_ID;
	quic += at == 1 ? 1 : QUIC_ID_AT; /* two numbers that the verifier knows */
	if (length < 1 + (__u32)pool->server_id_length ||
	    *quic >> ROTATION_SHIFT != pool->quic_config)
		return 0;
#pragma clang loop unroll(full)
	for (i = 1; i <= SERVER_ID_MAX; i++)
		key.id = key.id << 8 | quic[i];
	key.id >>= 8 * (SERVER_ID_MAX - pool->server_id_length);
	backend = server_ids.lookup(&key);
	if (!backend)
		return 0;
	*kind = lives(*backend) ? QUIC_BY_ID : QUIC_LOST_BACKEND;
	return *kind == QUIC_BY_ID ? *backend : 0;
}

/* As steer, before it: the index of the packet's backend, 0 when the hash decides. */
static __always_inline __u32 steer_quic(const struct cursor *cursor, const struct packet *packet,
					__u32 pool_id, const struct pool *pool)
{
	struct quic_counter *counter = quic_counters.lookup(&pool_id);
	enum quic kind;
	__u32 backend;

	if (packet->error || !counter) /* an error embeds the client's id, which says nothing */
		return 0;
	backend = find_server(cursor, pool_id, pool, &kind);
	counter->packets[kind & 3]++;
	return backend;
}

#endif
