/* SPDX-FileCopyrightText: 2026 The l4lb.xdp authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Every map of the balancer and every struct in it: the one schema. C reads it here, Python reads it
 * through bcc. Addresses and ports are in network order, an IPv4 address stands in the first word.
 *
 * Sizes (MAX_*, RING_SIZE), PINS, the directory of the pinned maps, and the running kernel's
 * JIFFIES_PER_SECOND are given by the loader. Whoever changes a struct or a map here raises
 * SCHEMA_VERSION: a program never attaches to maps of another one.
 */
#ifndef L4LB_MAPS_H
#define L4LB_MAPS_H

#include <uapi/linux/bpf.h>
#include <uapi/linux/in.h>

/* The kernel's macro for the running task, which in.h brings along; a slot has a `current`, too. */
#undef current

#define SCHEMA_VERSION 5

/* Time in ticks of 2^29 ns (0.54 s) of CLOCK_MONOTONIC_COARSE: a shift, where seconds cost a
 * division.
 */
#define TICK_SHIFT 29

/* Of the filter: with as many addresses as fit, one in 16 of what is foreign gets through. */
#define FILTER_BITS (16 * MAX_SERVICES)

/* Places for services that are found without a search: eight for each that there can be. */
#define SHORTCUTS (8 * MAX_SERVICES)

/* Datagrams whose later fragments are still to come, of the whole node: 2 MB. */
#define MAX_FRAGMENTS 16384

/* Events of a trace that its reader has not fetched yet: 3,640. */
#define TRACE_BYTES (256 * 1024)

/* Where an index could be 0. */
#define NOBODY 0xffffffff

enum tracking {
	TRACKING_ADAPTIVE, /* the flow table serves changed slots only */
	TRACKING_ALWAYS,
	TRACKING_NEVER,
};

enum algorithm {
	ALGORITHM_MAGLEV,
	ALGORITHM_RENDEZVOUS,
};

/* What of a flow picks its slot. */
enum identity {
	IDENTITY_FIVE_TUPLE,
	IDENTITY_WITHOUT_SOURCE_PORT,
	IDENTITY_SOURCE_ADDRESS, /* and nothing else: one slot for all that a client does */
	IDENTITY_DESTINATION_PORT, /* and nothing else, of either family */
};

enum forwarding {
	FORWARDING_IPIP,
	FORWARDING_L2, /* other MAC addresses, nothing else: backends on the node's links */
	FORWARDING_GUE, /* IP in UDP, whose source port tells routers flows apart */
};

enum state {
	STATE_UNUSED,
	STATE_ACTIVE, /* gets new flows */
	STATE_DRAINING, /* keeps the flows it has */
	STATE_DISABLED, /* loses its flows */
	STATE_REMOVED, /* gone from inventory; the index waits until no flow names it */
};

enum health {
	HEALTH_UP,
	HEALTH_DOWN,
};

/* What becomes of a packet to a service's address, but for none of its services. */
enum other_ports {
	OTHER_PORTS_DROP, /* passed, a node that forwards would send it back to the router */
	OTHER_PORTS_PASS,
};

/* Who answers an echo request to a service's address. */
enum echo {
	ECHO_ANSWER, /* the node */
	ECHO_FORWARD, /* the backend of its slot, in the pool of the address' first service */
	ECHO_PASS, /* the kernel */
};

/* What there is to look up before a packet to a service's address may go on: bits of
 * settings.guards.
 */
enum guard {
	GUARD_DENY, /* prefixes that nobody takes packets from */
	GUARD_SERVICES, /* services that have an entry of their own in service_guards */
	GUARD_COUNT,
};

/* Every packet gets one, and is counted under it: docs/packet.md says when. */
enum verdict {
	VERDICT_PASS_FOREIGN, /* not addressed to a service, or between neighbours */
	VERDICT_PASS_UNSERVED, /* to a service's address, but for none of its services, as configured */
	VERDICT_SENT, /* to the backend, out of the interface it came in */
	VERDICT_REDIRECTED, /* to the backend, out of another interface */
	VERDICT_TO_KERNEL, /* encapsulated, left to the kernel: neighbour unknown */
	VERDICT_ANSWERED_ECHO, /* turned into its own echo reply */
	VERDICT_ANSWERED_TOO_BIG, /* turned into an ICMP error: it would not fit when encapsulated */
	VERDICT_DROP_NO_BACKEND, /* nobody in the slot */
	VERDICT_DROP_NO_SOURCE, /* the node has no address of the backend's family */
	VERDICT_DROP_NO_ROUTE, /* to the backend, or only through a router where it must be near */
	VERDICT_DROP_NO_HEADROOM, /* the driver left no room for the outer header */
	VERDICT_DROP_MALFORMED, /* to a service's address, and its version or a length lies */
	VERDICT_DROP_UNSERVED, /* to a service's address, but not to its port or protocol */
	VERDICT_DROP_FRAGMENT, /* the first of its fragments was not seen, or it is of ICMP */
	VERDICT_DROP_ICMP_ERROR, /* to a service's address, but about none of its flows */
	VERDICT_DROP_TOO_BIG, /* as answered_too_big, but there must be no answer, or not so many */
	VERDICT_DROP_DENIED, /* to a service's address, from a source that the fleet denies */
	VERDICT_DROP_NOT_ALLOWED, /* from a source that its service does not allow */
	VERDICT_DROP_LIMITED, /* it opens a connection, and its service has had enough of them */
	VERDICT_COUNT,
};

/* What became of datagrams to a pool that asks for QUIC. */
enum quic {
	QUIC_BY_ID, /* to the server that the connection id names */
	QUIC_BY_HASH, /* the first of a connection, or not QUIC that we know */
	QUIC_UNKNOWN_ID, /* by hash: of no configuration or no server of the pool's */
	QUIC_LOST_BACKEND, /* by hash: its server is disabled or down */
	QUIC_COUNT,
};

enum schema {
	SCHEMA_LAYOUT, /* SCHEMA_VERSION; written last, so that 0 means unfinished */
	SCHEMA_RING_SIZE,
	SCHEMA_COUNT,
};

/* Outer source addresses, 0 for none, and which of their bits are the flow's hash. */
struct sources {
	__be32 ipv4;
	__be32 spread4;
	__be32 ipv6[4];
	__be32 spread6; /* of the last word */
	__u8 pad[4];
};

struct settings {
	__u64 hash_seed;
	struct sources own; /* the node's addresses: nothing of them is spread */
	struct sources outer; /* the same, or prefixes */
	__u32 zero; /* it is, but the verifier does not know */
	__u8 other_ports;
	__u8 echo;
	__be16 gue_port; /* where backends take GUE */
	__u8 guards; /* bits of enum guard, as the services need them */
	__u8 pad[3];
	__u32 new_records; /* flow records a second, of all CPUs, as inventory says it */
	__u64 record_interval; /* ns between two of a CPU; 0: as many as come */
};

struct service4_key {
	__be32 address;
	__be16 port; /* 0: any */
	__u8 protocol;
	__u8 pad;
};

struct service6_key {
	__be32 address[4];
	__be16 port;
	__u8 protocol;
	__u8 pad;
};

struct address6 {
	__be32 words[4];
};

struct service {
	__u32 id;
	__u32 pool; /* index of pools and of rings */
};

/* A service where its address, port and protocol lead to without a search. It is written by words of
 * eight bytes, that of the kind first when a service goes and last when one comes.
 */
struct shortcut_kind {
	__be16 port;
	__u8 protocol;
	__u8 family; /* 4 or 6; 0: no service */
	__u32 turn; /* another one each time that it is written */
};

struct shortcut {
	__be32 address[4];
	struct shortcut_kind kind;
	struct service service;
};

struct pool {
	__u64 ring_digest; /* of what the ring was made from; 0: unknown */
	__u32 settle; /* ticks a slot is tracked at least */
	__u32 udp_transition; /* ticks in which an unknown UDP flow stays on the previous backend */
	__u8 used;
	__u8 algorithm;
	__u8 forwarding;
	__u8 tracking;
	__u8 identity;
	__u8 server_id_length; /* bytes; 0: no connection ids are looked at */
	__u8 quic_config; /* the rotation bits of those that are */
	__u8 pad;
};

/* A server id is read as a number, in network order. */
struct server_key {
	__u64 id;
	__u32 pool;
	__u32 pad;
};

struct quic_counter {
	__u64 packets[QUIC_COUNT];
};

/* An array rounds its values up to 8 bytes: the memory of a slot costs nothing. */
struct slot {
	__u16 current; /* index of backends; 0: none */
	__u16 previous;
	__u32 tracked; /* tick since which every flow is recorded; 0: settled */
};

struct backend {
	__be32 address[4];
	__u16 pool;
	__u16 weight;
	__u8 ipv6;
	__u8 state;
	__u8 health;
	__u8 forwarding; /* its pool's */
};

struct flow4_key {
	__be32 source;
	__be32 destination;
	__be16 source_port;
	__be16 destination_port;
	__u32 protocol;
};

struct flow6_key {
	__be32 source[4];
	__be32 destination[4];
	__be16 source_port;
	__be16 destination_port;
	__u32 protocol;
};

struct flow {
	__u32 backend;
	__u32 seen; /* tick of its last packet */
};

/* What the fragments of one datagram have in common; `protocol` is 44 for every IPv6 one. */
struct fragment_key {
	__be32 source[4];
	__be32 destination[4];
	__be32 id;
	__u32 protocol;
};

struct fragment_record {
	__u32 backend;
	__u32 service;
	__u32 label; /* the flow's hash, as the outer header shows it */
	__u32 seen; /* tick of the first fragment */
};

struct nexthop {
	__u32 asked; /* the jiffy in which the kernel was */
	__u32 interface;
	__u8 destination[6]; /* as the two lie in a frame */
	__u8 source[6];
	__u32 mtu; /* of the route's interface, or of the route when it is locked there */
};

/* ICMP errors that were sent in a tick. */
struct budget {
	__u32 tick;
	__u32 spent;
};

/* Prefixes that are denied, and those that a service allows: LPM tries. `length` is in bits, of all
 * that follows it.
 */
struct deny4_key {
	__u32 length;
	__be32 address;
};

struct deny6_key {
	__u32 length;
	__be32 address[4];
};

struct allow4_key {
	__u32 length;
	__u32 service;
	__be32 address;
};

struct allow6_key {
	__u32 length;
	__u32 service;
	__be32 address[4];
};

struct service_guard {
	__u64 interval; /* ns between two new flows of a CPU; 0: as many as come */
	__u32 new_flows; /* as inventory says it: a second, of all CPUs */
	__u8 allow; /* only sources that allow4 or allow6 have */
	__u8 pad[3];
};

/* A CPU's part of a limit, and what it refused. `due` is when the bucket will be full: guard.h. */
struct guard_state {
	__u64 due; /* ns of CLOCK_MONOTONIC_COARSE */
	__u64 not_allowed; /* packets */
	__u64 limited;
};

struct record_state {
	__u64 due;
	__u64 refused; /* flows, or their packets again */
};

/* Which packets are told of, and until when: trace.h. */
struct tracing {
	__u32 until; /* the last tick; 0: nothing is traced */
	__u32 session; /* the reader's; its events have it, too */
	__u32 sample; /* one packet in so many */
	__u32 service; /* NOBODY: whatever it is */
	__be32 source[4];
	__be32 mask[4]; /* of the source's bits that matter */
	__u8 family; /* 4 or 6; 0: either */
	__u8 verdict; /* VERDICT_COUNT: whatever it is */
	__u8 pad[2];
};

/* A packet of a trace. Addresses, ports and protocol are those of its flow, or of the flow that an
 * ICMP error is about.
 */
struct trace_event {
	__u64 time; /* ns of CLOCK_MONOTONIC */
	__be32 source[4];
	__be32 destination[4];
	__be16 source_port;
	__be16 destination_port;
	__u32 session;
	__u32 service; /* NOBODY: none */
	__u32 slot; /* NOBODY: none was asked */
	__u16 backend; /* 0: none */
	__u16 length;
	__u8 protocol;
	__u8 ipv6;
	__u8 verdict;
	__u8 error; /* it is an ICMP error */
};

struct counter {
	__u64 packets;
	__u64 bytes; /* of the client's IP packets, without Ethernet and outer header */
};

struct service_counter {
	__u64 packets;
	__u64 bytes;
	__u64 opens; /* of the packets those that open a connection: TCP SYN, SCTP INIT */
};

struct name {
	char text[64];
};

BPF_TABLE_PINNED("array", __u32, __u64, schema, SCHEMA_COUNT, PINS "/schema");
BPF_TABLE_PINNED("array", __u32, struct settings, settings, 1, PINS "/settings");

BPF_TABLE_PINNED("hash", struct service4_key, struct service, services4, MAX_SERVICES,
		 PINS "/services4");
BPF_TABLE_PINNED("hash", struct service6_key, struct service, services6, MAX_SERVICES,
		 PINS "/services6");
/* The services' addresses, whatever the port, with the first service of each. A packet asks only when
 * no service has its port.
 */
BPF_TABLE_PINNED("hash", __be32, struct service, addresses4, MAX_SERVICES, PINS "/addresses4");
BPF_TABLE_PINNED("hash", struct address6, struct service, addresses6, MAX_SERVICES,
		 PINS "/addresses6");
/* A bit for every address of these two maps, asked before all of them. A bit may be set without one:
 * that packet only takes longer. An address is never without its bit, whatever changes.
 */
BPF_TABLE_PINNED("array", __u32, __u64, address_filter, (FILTER_BITS + 63) / 64,
		 PINS "/address_filter");
/* Services of these two maps, asked before them: one that finds its place taken is only slower. What
 * is here is in services4 or services6, too, and the same. Python maps its memory.
 */
BPF_TABLE_PINNED("array", __u32, struct shortcut, shortcuts, SHORTCUTS, PINS "/shortcuts",
		 BPF_F_MMAPABLE);
BPF_TABLE_PINNED("array", __u32, struct name, service_names, MAX_SERVICES, PINS "/service_names");

/* Memory is taken for what there is: a trie cannot be allocated before. */
BPF_TABLE_PINNED("lpm_trie", struct deny4_key, __u8, deny4, MAX_DENY, PINS "/deny4",
		 BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED("lpm_trie", struct deny6_key, __u8, deny6, MAX_DENY, PINS "/deny6",
		 BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED("lpm_trie", struct allow4_key, __u8, allow4, MAX_ALLOW, PINS "/allow4",
		 BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED("lpm_trie", struct allow6_key, __u8, allow6, MAX_ALLOW, PINS "/allow6",
		 BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED("array", __u32, struct service_guard, service_guards, MAX_SERVICES,
		 PINS "/service_guards");
BPF_TABLE_PINNED("percpu_array", __u32, struct guard_state, guard_states, MAX_SERVICES,
		 PINS "/guard_states");
BPF_TABLE_PINNED("percpu_array", __u32, struct record_state, record_states, 1,
		 PINS "/record_states");

BPF_TABLE_PINNED("array", __u32, struct pool, pools, MAX_POOLS, PINS "/pools");
BPF_TABLE_PINNED("array", __u32, struct name, pool_names, MAX_POOLS, PINS "/pool_names");

/* A ring is replaced whole: a packet sees the old one or the new one. Python maps its memory: by system
 * calls a ring of 65,537 slots takes 17 ms to read, so 0.1 ms. Not by bcc's macro, which would give
 * the template BTF: Linux before 6.2 takes no ring in its place then that has none, as Python's.
 */
struct ring_template_table_t {
	__u32 key;
	struct slot leaf;
	u32 max_entries;
	int flags;
};
__attribute__((section("maps/array"))) struct ring_template_table_t ring_template = {
	.max_entries = RING_SIZE,
	.flags = BPF_F_MMAPABLE,
};
BPF_TABLE_PINNED("array_of_maps$ring_template", __u32, int, rings, MAX_POOLS, PINS "/rings");

BPF_TABLE_PINNED("array", __u32, struct backend, backends, MAX_BACKENDS, PINS "/backends");

/* The backends of pools that ask for QUIC, by the ids that their servers issue. */
BPF_TABLE_PINNED("hash", struct server_key, __u32, server_ids, MAX_BACKENDS, PINS "/server_ids");

BPF_TABLE_PINNED("lru_hash", struct flow4_key, struct flow, flows4, MAX_FLOWS, PINS "/flows4");
BPF_TABLE_PINNED("lru_hash", struct flow6_key, struct flow, flows6, MAX_FLOWS, PINS "/flows6");

BPF_TABLE_PINNED("lru_hash", struct fragment_key, struct fragment_record, fragments, MAX_FRAGMENTS,
		 PINS "/fragments");

BPF_TABLE_PINNED("percpu_array", __u32, struct budget, budgets, 1, PINS "/budgets");
BPF_TABLE_PINNED("percpu_array", __u32, struct nexthop, nexthops, MAX_BACKENDS, PINS "/nexthops");

BPF_TABLE_PINNED("array", __u32, struct tracing, tracing, 1, PINS "/tracing");
/* Events that found the buffer full. */
BPF_TABLE_PINNED("array", __u32, __u64, trace_lost, 1, PINS "/trace_lost");
/* bcc's macro for a ring buffer cannot pin it. */
struct trace_events_table_t {
	int key;
	struct trace_event leaf;
	void *(*ringbuf_reserve)(u64);
	void (*ringbuf_submit)(void *, u64);
	u32 max_entries;
};
__attribute__((
	section("maps/ringbuf:" PINS "/trace_events"))) struct trace_events_table_t trace_events = {
	.max_entries = TRACE_BYTES
};

BPF_TABLE_PINNED("percpu_array", __u32, struct counter, verdicts, VERDICT_COUNT, PINS "/verdicts");
BPF_TABLE_PINNED("percpu_array", __u32, struct service_counter, service_counters, MAX_SERVICES,
		 PINS "/service_counters");
BPF_TABLE_PINNED("percpu_array", __u32, struct counter, backend_counters, MAX_BACKENDS,
		 PINS "/backend_counters");
BPF_TABLE_PINNED("percpu_array", __u32, struct quic_counter, quic_counters, MAX_POOLS,
		 PINS "/quic_counters");

#endif
