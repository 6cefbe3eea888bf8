/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The flow's hash: _flowhash.py computes the same value, so that every node, and whoever explains a
 * packet's way, agrees. Words are the packet's bytes read little-endian. 64-bit multiplications
 * instead of Jenkins' rotations: bcc's code has none, and emulating them costs more than the hash.
 */
#ifndef L4LB_FLOWHASH_H
#define L4LB_FLOWHASH_H

#include "maps.h"
#include "parse.h"

#define HASH_MULTIPLIER 0x9e3779b97f4a7c15ULL /* 2^64 / golden ratio */

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define le_word(word) ((__u64)(word))
#else
#define le_word(word) ((__u64)__builtin_bswap32(word))
#endif

/* 29 is no multiple of 8: by 32, a change in one word could undo the same change in the next. */
static __always_inline __u64 absorb(__u64 hash, __be32 first, __be32 second)
{
	hash ^= le_word(first) | le_word(second) << 32;
	hash *= HASH_MULTIPLIER;
	return hash ^ hash >> 29;
}

/* MurmurHash3's 64-bit finalizer. */
static __always_inline __u64 finish(__u64 hash)
{
	hash ^= hash >> 33;
	hash *= 0xff51afd7ed558ccdULL;
	hash ^= hash >> 33;
	hash *= 0xc4ceb9fe1a85ec53ULL;
	return hash ^ hash >> 33;
}

static __always_inline __u64 flow_hash(const struct packet *packet, __u64 seed)
{
	__be32 ports;
	__u64 hash;

	if (packet->ipv6) {
		hash = absorb(seed, packet->source[0], packet->source[1]);
		hash = absorb(hash, packet->source[2], packet->source[3]);
		hash = absorb(hash, packet->destination[0], packet->destination[1]);
		hash = absorb(hash, packet->destination[2], packet->destination[3]);
	} else {
		hash = absorb(seed, packet->source[0], packet->destination[0]);
	}
	__builtin_memcpy(&ports, &packet->source_port, sizeof(ports)); /* both of them */
	return finish(hash ^ (le_word(ports) | (__u64)packet->protocol << 32));
}

/* The hash that picks the slot: of what the pool takes for the flow, the rest being 0. */
static __always_inline __u64 identity_hash(const struct packet *packet, __u64 seed, __u8 identity)
{
	struct packet kept = {};

	if (likely(identity == IDENTITY_FIVE_TUPLE))
		return flow_hash(packet, seed);
	if (identity != IDENTITY_DESTINATION_PORT) {
		kept.ipv6 = packet->ipv6;
		__builtin_memcpy(kept.source, packet->source, sizeof(kept.source));
	}
	if (identity == IDENTITY_WITHOUT_SOURCE_PORT) {
		__builtin_memcpy(kept.destination, packet->destination, sizeof(kept.destination));
		kept.protocol = packet->protocol;
	}
	if (identity != IDENTITY_SOURCE_ADDRESS)
		kept.destination_port = packet->destination_port;
	return flow_hash(&kept, seed);
}

#endif
