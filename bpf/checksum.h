/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The Internet checksum: one's complement arithmetic, where a carry comes in again at the other end
 * (RFC 1071). It is the same in either byte order, so words are taken as they lie.
 */
#ifndef L4LB_CHECKSUM_H
#define L4LB_CHECKSUM_H

#include <uapi/linux/types.h>
#include <uapi/linux/ip.h>

/* The checksum of a sum of words; a carry can itself carry, and 64 bits have room for three. */
static __always_inline __sum16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* The checksum after one word has changed (RFC 1624, equation 3). */
static __always_inline __sum16 replace(__sum16 check, __be16 before, __be16 after)
{
	return fold((__u64)(__u16)~check + (__u16)~before + after);
}

#endif
