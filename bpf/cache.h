/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What each CPU knows by heart: the reals of the connections it saw since the clock last ticked. A packet that changes
 * nothing in the connection table (a datagram, a bare ACK, data) is answered from here, with one cold line of memory
 * instead of the table's three or more. The table is asked once a tick and connection, so that its ages, its recency and
 * what user space is told are those that they would be without a cache.
 *
 * A line holds while three things are as they were when it was written: the program (each has a cache of its own), the
 * tick, and its key's epoch. Who gives a connection another real, or a state that an ACK would change, or deletes it,
 * raises the epoch *after* the table says so; who writes a line reads the epoch *before* he asks the table. So no line
 * says what the table does not, on whichever CPU (docs/packet-path.md goes through the cases). Epochs are shared by many
 * keys: one that is raised costs their connections a look at the table, no more.
 *
 * A set of two lines is one line of memory. A line that holds is never pushed out: whoever finds both taken asks the
 * table until the tick ends, when who has most to send comes first. The hash is seeded anew for each program
 * (multiply-shift, universal: Dietzfelbinger et al. 1997), so that nobody outside can choose who shares a set.
 *
 * Each family has sets of its own. An IPv6 virtual address would be too long for a line, which has its number instead:
 * that means the same as long as the program does.
 *
 * Generated: CACHE_CPUS, CACHE_SET_BITS (0: no cache), CACHE_SEED_0 to 6, SETTLED_STATES (bits: an ACK changes none).
 */
#define CACHE_WAYS 2

/* Segments of a finished connection may be another director's, who is asked first (lease.h). */
#define REMEMBERED_STATES (SETTLED_STATES & ~REUSABLE_STATES)

struct cache_line {
	__u64 key[2];		/* a struct connection_key; of IPv6 the client's address */
	__u32 tick;
	__u32 epoch;
	__u32 ports;		/* of IPv6 */
	__u16 service;		/* of IPv6: cached_service() */
	__u16 real;
};

_Static_assert(REALS_MAX <= 1 << 16, "a line has 16 bits for a real");

struct cache_set {
	struct cache_line lines[CACHE_WAYS];
};

/* One part for each CPU. Of the kernel's arrays, those that can be mapped begin on a page, and sets on lines of memory;
 * a per-CPU array would read a pointer first, from a second cold line. */
#if IPV4_SERVICES
BPF_F_TABLE("array", __u32, struct cache_set, cache_sets, CACHE_CPUS << CACHE_SET_BITS, BPF_F_MMAPABLE);
#endif
#if IPV6_SERVICES
BPF_F_TABLE("array", __u32, struct cache_set, cache_sets6, CACHE_CPUS << CACHE_SET_BITS, BPF_F_MMAPABLE);
#endif

/* Where a packet's line may be, and what makes one of now valid. No set: no cache, or none for this CPU. */
struct place {
	struct cache_set *set;
	struct epoch *shared;
	__u32 tick;
	__u32 epoch;
};

/* The virtual's number and the protocol. */
static __always_inline __u16 cached_service(const struct packet *packet)
{
	return packet->number << 1 | (packet->protocol == IPPROTO_UDP);
}

_Static_assert(SERVICES_MAX <= 1 << 12, "a line has 16 bits for a virtual's number with its protocols and one of them");

/* IPv6's words are multiplied in pairs, which is universal too (Thorup, "High speed hashing for integers and strings",
 * 2015: pair-multiply-shift). */
static __always_inline __u32 cache_hash(const struct packet *packet)
{
	if (is_ipv6(packet))
		return ((CACHE_SEED_0 + (__u32)packet->client6[0]) * (CACHE_SEED_1 + (packet->client6[0] >> 32)) +
			(CACHE_SEED_2 + (__u32)packet->client6[1]) * (CACHE_SEED_3 + (packet->client6[1] >> 32)) +
			(CACHE_SEED_4 + packet->ports) * (CACHE_SEED_5 + cached_service(packet)) + CACHE_SEED_6) >> 32;
	return (packet->client * CACHE_SEED_0 + packet->ports * CACHE_SEED_1 + packet->virtual * CACHE_SEED_2 +
		CACHE_SEED_3) >> 32;
}

static __always_inline struct place find_place(const struct packet *packet, __u32 now_t)
{
	struct place place = { .tick = now_t };
	__u32 hash, index;

	if (!CACHE_SET_BITS)
		return place;
	hash = cache_hash(packet);
	index = hash % EPOCHS;
	place.shared = epochs.lookup(&index);
	if (!place.shared)
		return place;
	place.epoch = *(volatile __u32 *)&place.shared->number;
	index = bpf_get_smp_processor_id() << CACHE_SET_BITS | hash >> (32 - CACHE_SET_BITS);
#if IPV6_SERVICES
	if (is_ipv6(packet))
		place.set = cache_sets6.lookup(&index);
#endif
#if IPV4_SERVICES
	if (!is_ipv6(packet))
		place.set = cache_sets.lookup(&index);
#endif
	return place;
}

static __always_inline bool is_valid(const struct cache_line *line, const struct place *place)
{
	return line->tick == place->tick && line->epoch == place->epoch;
}

static __always_inline bool is_of(const struct cache_line *line, const struct packet *packet, const union key *key)
{
	const __u64 *words = is_ipv6(packet) ? packet->client6 : key->words;

	return line->key[0] == words[0] && line->key[1] == words[1] &&
	       (!is_ipv6(packet) || (line->ports == packet->ports && line->service == cached_service(packet)));
}

/* Would this packet leave a settled connection's entry as it is? */
static __always_inline bool is_quiet(const struct packet *packet)
{
	return packet->protocol != IPPROTO_TCP ||
	       (packet->tcp_flags & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK)) == TCP_ACK;
}

/* A quiet packet's real in *real, if it is known by heart. */
static __always_inline bool recall(const struct place *place, const struct packet *packet, const union key *key,
				   __u32 *real)
{
	struct cache_line *line;

	if (!place->set)
		return false;
	line = &place->set->lines[0];
	if (!is_of(line, packet, key)) {
		line = &place->set->lines[1];
		if (!is_of(line, packet, key))
			return false;
	}
	*real = line->real;
	return is_valid(line, place);
}

static __always_inline void forget(const struct place *place, const struct packet *packet, const union key *key)
{
	struct cache_line *line = &place->set->lines[0];

	if (!is_of(line, packet, key))
		line++;
	if (is_of(line, packet, key))
		line->tick = place->tick - 1;
}

/* The next quiet packets of this connection, whose entry was just looked at, need no look at the table in this tick;
 * or they do, from now on. Only a quiet packet has read its epoch before it asked the table. */
static __always_inline void remember(const struct place *place, const struct packet *packet, const union key *key,
				     __u32 real, __u8 state)
{
	const __u64 *words = is_ipv6(packet) ? packet->client6 : key->words;
	struct cache_line *line;

	if (!place->set)
		return;
	if (!is_quiet(packet) || !(1u << state & REMEMBERED_STATES)) {
		forget(place, packet, key);
		return;
	}
	line = &place->set->lines[0];
	if (!is_of(line, packet, key) && (is_of(line + 1, packet, key) || is_valid(line, place))) {
		line++;
		if (!is_of(line, packet, key) && is_valid(line, place))
			return;
	}
	line->key[0] = words[0];
	line->key[1] = words[1];
	line->tick = place->tick;
	line->epoch = place->epoch;
	line->real = real;
	if (is_ipv6(packet)) {
		line->ports = packet->ports;
		line->service = cached_service(packet);
	}
}

/* The table says something else of this key than before: no CPU may go by what it remembers. */
static __always_inline void raise_epoch(const struct place *place)
{
	if (place->shared)
		lock_xadd(&place->shared->number, 1);
}
