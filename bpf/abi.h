/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Every struct that the packet program shares with Python. Layouts flow from here to there: the compiler describes
 * them and lb.abi makes numpy types of the description. A field declared __be16 to __be64 is in wire order, all others
 * are in host order, and no name is both. tests/packet/test_layout.py prints every offset.
 *
 * An address of either family is two words in wire order; an IPv4 address is IPv4-mapped in them (RFC 4291 section
 * 2.5.5.2). Only connections, of which there are many, have a table of their own for each family.
 *
 * Times ending in _t are ticks: CLOCK_MONOTONIC nanoseconds >> TICK_SHIFT (1.07 s). A shift costs nothing; dividing
 * nanoseconds by 10^9 costs more than the rest of a known connection's bookkeeping.
 */

/* Compared as bytes, so that nothing may be left to chance: `zero` is the padding, named. */
struct connection_key {
	__be32 client;
	__be32 virtual;
	__be16 client_port;
	__be16 virtual_port;
	__u8 protocol;
	__u8 template;		/* 1: the key of a template (persist.h) */
	__u8 zero[2];
};

struct connection_key6 {
	__be64 client[2];
	__be64 virtual[2];
	__be16 client_port;
	__be16 virtual_port;
	__u8 protocol;
	__u8 template;
	__u8 zero[2];
};

struct connection {
	__u32 real;		/* index in `reals`, never a MAC: that may change */
	__u32 last_seen_t;
	__u32 synced_t;		/* when user space was last told of it */
	__u8 state;		/* lb.tcp.State */
	__u8 zero[3];
};

/* Connections of which one packet came (embryo.h), in sets of two lines of memory; of IPv6, of four. seen_m: moments,
 * CLOCK_MONOTONIC nanoseconds >> MOMENT_SHIFT. check: a sum of all before it. gone: equal to check if it is not there any
 * more. */
struct embryo {
	struct connection_key key;
	__u32 seen_m;
	__u16 real;
	__u8 state;
	__u8 zero;
	__u32 check;
	__u32 gone;
};

struct embryo6 {
	struct connection_key6 key;
	__u32 seen_m;
	__u16 real;
	__u8 state;
	__u8 zero;
	__u32 check;
	__u32 gone;
	__u64 unused;
};

struct embryo_set {
	struct embryo ways[EMBRYO_WAYS];
};

struct embryo6_set {
	struct embryo6 ways[EMBRYO_WAYS];
};

/* One real of one service. First what packets need: rows are multiples of 16 bytes, so that it lies on one line of
 * memory. Then whose it is, so that its index outlives programs and processes. */
struct real {
	__u8 mac[6];		/* valid with REAL_RESOLVED */
	__u16 weight;
	__u8 flags;		/* lb.abi.RealFlag */
	__u8 protocol;
	__be16 virtual_port;
	__u32 zero;
	__be64 address[2];
	__be64 virtual[2];
};

/* What more it takes to reach the real of the same index than its MAC. Valid with REAL_RESOLVED, where the real has a
 * tunnel or the director several interfaces. */
struct way {
	__be64 source[2];	/* of the outer header */
	__u32 interface;	/* index of the one that it leaves by; 0: that by which the packet came in */
	__u8 own_mac[6];	/* of that interface */
	__u16 mtu;		/* of the route: the largest packet, its outer header included */
	__u32 zero;		/* makes it 32 bytes */
};

struct real_stats {
	__u64 packets;
	__u64 bytes;		/* of IP, as IPVS counts them */
	__u64 connections;	/* ever scheduled here */
};

/* How many connections a real has. The program adds to the first two, atomically; user space alone writes the next two,
 * so that neither ever loses what the other one wrote. Either may be negative, the sums mean something. The last one is
 * the program's again, and goes round: two readings mean something. */
struct load {
	__s32 active;
	__s32 inactive;
	__s32 active_fix;
	__s32 inactive_fix;
	__u32 upper;		/* 0: never full */
	__u32 lower;
	__u32 full;		/* reached `upper`, not yet below `lower` again */
	__u32 repeats;		/* SYNs that came again, unanswered (repeat.h) */
};

/* For those who read the maps; the program has its services compiled in. Behind all services come the further addresses,
 * ports and protocols of groups, a row each, of which only those fields, `flags` and `leader` mean something. */
struct service {
	__be64 virtual[2];
	__be16 virtual_port;
	__u8 protocol;
	__u8 flags;		/* lb.abi.ServiceFlag */
	__u8 scheduler[8];	/* its name, padded with zeros */
	__u32 persistent_s;	/* 0: clients are not remembered */
	__u8 netmask;		/* what counts as one client then: leading bits of the address */
	__u8 zero[5];
	__u16 leader;		/* the row of the service that it belongs to */
};

/* What a service is scheduled by. `table` is where its table lies in `slots`: base in the low half, count in the high.
 * `list` is which of `lists` has its candidates: row in the low half, then count in 16 bits, then 16 that change when
 * positions get another meaning. Each is written in one store. Only schedulers that some service has are compiled in. */
struct schedule {
	__u64 table;
	__u64 list;
	__u64 cursor;
	__u32 scheduler;	/* its place in lb.schedule.SCHEDULERS */
	__u32 flags;		/* lb.abi.ServiceFlag */
};

/* A candidate: index of the real in the low half, then weight, then position in the service, in 16 bits each. */
struct candidates {
	__u64 entries[LIST_MAX];
};

/* Which reals serve a destination address: bits by position. */
struct locality_key {
	__be32 destination;
	__u32 service;
};

struct locality {
	__u64 members[LIST_MAX / 64];
	__u32 used_t;
	__u32 changed_t;
	__u32 meaning;		/* of the positions; see struct schedule */
	__u32 unused;
};

/* until_ns: this host may answer for the virtual addresses. refer_until_ns: segments of connections that it does not
 * know may belong to those that the director that was active before could not tell it any more. directors: the MACs of
 * the others, that one's first; places that are not used are zero. */
#define OTHER_DIRECTORS 7
#define MAC_BYTES 6

struct lease {
	__u64 until_ns;
	__u64 refer_until_ns;
	__u8 directors[OTHER_DIRECTORS * MAC_BYTES];
	__u8 zero[6];
};

/* How many ICMP errors this CPU has sent in a tick. */
struct answered {
	__u32 tick;
	__u32 count;
};

/* A prefix of clients that are denied. An IPv4 address is the first of the four words. */
struct denied_key {
	__u32 prefix;		/* bits that count, those of `family` among them */
	__u32 family;		/* 4 or 6 */
	__be32 denied[4];
};

/* Raised when the table says something else of a key than before; keys share epochs by their hash. User space, which
 * cannot add atomically, adds a number that no packet's ones reach. */
struct epoch {
	__u32 number;
};

/* What the ring tells user space: enough to make a row of lb.connections, with what `reals` says of the index. */
struct event {
	struct connection_key key;
	__u32 real;
	__u32 last_seen_t;
	__u32 state;
	__u32 unused;		/* records are multiples of 8 bytes */
};

struct event6 {
	struct connection_key6 key;
	__u32 real;
	__u32 last_seen_t;
	__u32 state;
	__u32 unused;
};

/* A datagram that comes in fragments, while they come. IPv6 knows it by addresses and identification alone: `protocol` is
 * 0 then. IPv4's identification is the lower half of `id`. */
struct datagram_key {
	__be64 client[2];
	__be64 virtual[2];
	__be32 id;
	__u8 protocol;
	__u8 zero[3];
};

/* real: the index in `reals` of who gets it, or one of DATAGRAM_WAITS, DATAGRAM_PASSED, DATAGRAM_DROPPED. */
struct datagram {
	__u32 real;
	__u32 seen_t;
	__u32 first_bytes;	/* of the datagram, in its first fragment */
};

/* A fragment that came before its datagram's first, for user space to hold: a frame of `length` bytes. 0: the first has
 * come. */
struct early {
	struct datagram_key datagram;
	__u32 length;
	__u32 unused;
	__u64 words[EARLY_BYTES / 8];
};

/* How many fragments a CPU set aside in a tick. */
struct pace {
	__u32 tick;
	__u32 count;
};

/* How a packet of a virtual leaves, and by which name it is counted. Packets of others are not counted at all. */
#define OUTCOMES(_) \
	_(tx_packets, XDP_TX) \
	_(passed, XDP_PASS) \
	_(redirected, XDP_REDIRECT) \
	_(referred, XDP_TX) \
	_(too_big, XDP_TX) \
	_(unreachable, XDP_TX) \
	_(set_aside, XDP_DROP) \
	_(drop_no_real, XDP_DROP) \
	_(drop_no_neighbour, XDP_DROP) \
	_(drop_fragment, XDP_DROP) \
	_(drop_malformed, XDP_DROP) \
	_(drop_no_lease, XDP_DROP) \
	_(drop_table_full, XDP_DROP) \
	_(drop_too_big, XDP_DROP) \
	_(drop_no_headroom, XDP_DROP) \
	_(drop_real_gone, XDP_DROP) \
	_(drop_denied, XDP_DROP) \
	_(drop_too_fast, XDP_DROP) \
	_(arp_no_lease, XDP_DROP) \
	_(nd_no_lease, XDP_DROP)

struct counters {
#define COUNTER(name, action) __u64 name;
	OUTCOMES(COUNTER)
#undef COUNTER
	__u64 events_lost;
};
