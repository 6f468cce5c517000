/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Half-open connections: those of which one packet came. A SYN or a first datagram takes no place in the connection
 * table, which only the client's next packet does: a flood whose sources are made up moves no established connection.
 * Here it moves others like it, the oldest of its set first, so that a client's second packet is in time as long as it
 * comes within (entries / packets a second of the flood): docs/packet-path.md.
 *
 * An array of sets instead of one of the kernel's hashes: a newcomer costs one look at two adjacent lines of memory that
 * its hash finds, no lists and no locks. The hash is pair-multiply-shift (cache.h) by a seed that lasts as long as the
 * map, since programs come and go meanwhile.
 *
 * No locks: two CPUs may write one entry at once. `check` is a sum over all other words; an entry whose words are not of
 * one piece reads as absent. An entry goes by its `gone` becoming equal to its `check`: whoever lets it go, here or in
 * user space, and is late, says so of one that is not there any more, and does no harm to who is there now.
 *
 * Templates of persistent services (persist.h) are half-open too as long as their client is.
 *
 * An entry is looked at as words: of the key (two, of IPv6 five), then when, whose and in which state, then check and
 * gone. Generated: EMBRYO_WAYS, EMBRYO_SET_BITS, EMBRYO_SEED_0 to 9, CHECK_FACTOR_0 to 5, MOMENT_SHIFT.
 */
#define KEY4_WORDS 2
#define KEY6_WORDS 5
#define ENTRY_WORDS(keys) ((keys) == KEY4_WORDS ? sizeof(struct embryo) / 8 : sizeof(struct embryo6) / 8)

_Static_assert(REALS_MAX <= 1 << 16, "an embryo has 16 bits for a real");

/* How many words a packet's key has: a constant wherever a packet's family is one (frame.h). */
static __always_inline int key_words(const struct packet *packet)
{
	return is_ipv6(packet) ? KEY6_WORDS : KEY4_WORDS;
}

/* Where a key's entry is, or would be put. */
struct crib {
	__u64 *words;	/* NULL: there are none of its family */
	__u32 check;	/* of the one that is there */
	__u32 way;
	bool same;	/* by this key */
};

static __always_inline __u32 embryo_set_of(const union key *key, const int keys)
{
	const __u64 seed[] = {
		EMBRYO_SEED_0, EMBRYO_SEED_1, EMBRYO_SEED_2, EMBRYO_SEED_3, EMBRYO_SEED_4,
		EMBRYO_SEED_5, EMBRYO_SEED_6, EMBRYO_SEED_7, EMBRYO_SEED_8, EMBRYO_SEED_9,
	};
	__u64 sum = 0;

#pragma unroll
	for (int i = 0; i < keys; i++)
		sum += (seed[2 * i] + (__u32)key->words[i]) * (seed[2 * i + 1] + (key->words[i] >> 32));
	return sum >> (64 - EMBRYO_SET_BITS);
}

/* The upper half of a multiplication by numbers that have no more in common than their being odd. */
static __always_inline __u32 check_of(const __u64 *words, const int keys)
{
	const __u64 factor[] = {
		CHECK_FACTOR_0, CHECK_FACTOR_1, CHECK_FACTOR_2, CHECK_FACTOR_3, CHECK_FACTOR_4, CHECK_FACTOR_5,
	};
	__u64 sum = 0;

#pragma unroll
	for (int i = 0; i <= keys; i++)
		sum += words[i] * factor[i];
	return sum >> 32;
}

/* A turn over four entries without a branch, so that kernels have one path to check instead of dozens. Clang would make
 * branches of the usual forms: BPF has no other way to ask whether a number is zero. */
#define HIDE(x) asm volatile("" : "+r"(x))

/* All bits, or none if x is zero; x below 2^63. */
static __always_inline __s64 unless_zero(__u64 x)
{
	__s64 negative = -x;

	HIDE(negative);
	return negative >> 63;
}

static __always_inline __s64 larger(__s64 a, __s64 b)
{
	__s64 more = b - a, sign = more >> 63;

	HIDE(sign);
	return a + (more & ~sign);
}

#define FREE (1ll << 40)
#define OWN (1ll << 42)

/* Of putting the key into one entry: the key's own, else a free one, else the oldest. The lowest bits are 3 - way. */
static __always_inline __s64 fitness(const __u64 *words, const union key *key, const int keys, __u32 now_m, int way)
{
	__u64 marks = words[keys + 1], differs = 0;
	__s64 taken = unless_zero((__u32)marks ^ marks >> 32), age = (__s32)(now_m - (__u32)words[keys]), others;

#pragma unroll
	for (int i = 0; i < keys; i++)
		differs |= words[i] ^ key->words[i];
	others = unless_zero((__u32)differs | differs >> 32);
	return (taken & (age * EMBRYO_WAYS + (~others & OWN))) + (~taken & FREE) + (EMBRYO_WAYS - 1 - way);
}

static __always_inline struct crib crib_in(__u64 *set, const union key *key, const int keys, __u32 now_m)
{
	struct crib crib = {};
	__s64 best;

	if (!set)
		return crib;
	best = fitness(set, key, keys, now_m, 0);
#pragma unroll
	for (int way = 1; way < EMBRYO_WAYS; way++)
		best = larger(best, fitness(set + way * ENTRY_WORDS(keys), key, keys, now_m, way));
	crib.way = (best & (EMBRYO_WAYS - 1)) ^ (EMBRYO_WAYS - 1);
	crib.words = set + crib.way * ENTRY_WORDS(keys);
	crib.same = best > OWN / 2;
	return crib;
}

/* NULL: there are none of its family. */
static __always_inline __u64 *set_at(__u32 index, const int keys)
{
#if IPV6_SERVICES
	if (keys == KEY6_WORDS)
		return (__u64 *)embryos6.lookup(&index);
#endif
#if IPV4_SERVICES
	if (keys == KEY4_WORDS)
		return (__u64 *)embryos.lookup(&index);
#endif
	return NULL;
}

/* Have the processor bring a set while it waits for the connection table to say that the key is not there: both are cold
 * as a rule. BPF cannot ask for memory ahead of its use, but nobody waits for what is read and not used. */
static __always_inline void fetch_ahead(__u32 index, const int keys)
{
	const volatile __u64 *set = set_at(index, keys);

	if (set) {
		set[0];
		set[EMBRYO_WAYS * ENTRY_WORDS(keys) - 1];
	}
}

static __always_inline struct crib find_crib(const union key *key, const int keys, __u64 now_ns)
{
	return crib_in(set_at(embryo_set_of(key, keys), keys), key, keys, now_ns >> MOMENT_SHIFT);
}

/* As an entry of the connection table would be. False: it is not of one piece. */
static __always_inline bool read_embryo(struct crib *crib, const int keys, __u64 now_ns, struct connection *young)
{
	__u64 now_m = now_ns >> MOMENT_SHIFT, value = *(volatile __u64 *)&crib->words[keys];

	young->real = value >> 32 & 0xffff;
	young->state = value >> 48;
	young->last_seen_t = (now_m - (__s32)((__u32)now_m - (__u32)value)) >> (TICK_SHIFT - MOMENT_SHIFT);
	crib->check = check_of(crib->words, keys);
	return crib->check == (__u32)crib->words[keys + 1];
}

/* The half-open connection of a key, if it is there. */
static __always_inline bool find_embryo(struct crib *crib, const int keys, __u64 now_ns, struct connection *young)
{
	return crib->words && crib->same && read_embryo(crib, keys, now_ns, young);
}

/* When it was seen, its real, its state. Check and gone last: they say that all is
 * there. Gone is written too, since one that opens anew within a moment has the check of the one that went. */
static __always_inline void write_value(const struct crib *crib, const int keys, __u64 now_ns, __u32 real, __u8 state)
{
	__u64 check;

	crib->words[keys] = (__u64)state << 48 | (__u64)(__u16)real << 32 | (__u32)(now_ns >> MOMENT_SHIFT);
	check = check_of(crib->words, keys);
	*(volatile __u64 *)&crib->words[keys + 1] = ~check << 32 | check;
}

/* It is not here any more. If another one came into its place meanwhile, that one stays. */
static __always_inline void let_go(const struct crib *crib, const int keys)
{
	((volatile __u32 *)&crib->words[keys + 1])[1] = crib->check;
}

static __always_inline void count_embryo(const struct connection *young, __s32 by)
{
	if (young->state != STATE_TEMPLATE)
		count(young->real, young->state, by);
}

static __always_inline bool is_taken(const struct crib *crib, const int keys)
{
	__u64 marks = crib->words[keys + 1];

	return (__u32)marks != marks >> 32;
}

/* Who has to go for it is counted no more. */
static __always_inline void lay_into(struct crib *crib, const union key *key, const int keys, __u32 real, __u8 state,
				     __u64 now_ns)
{
	struct connection before, fresh = { .real = real, .state = state };

	if (COUNTING && is_taken(crib, keys) && read_embryo(crib, keys, now_ns, &before))
		count_embryo(&before, -1);
#pragma unroll
	for (int i = 0; i < keys; i++)
		crib->words[i] = key->words[i];
	write_value(crib, keys, now_ns, real, state);
	count_embryo(&fresh, 1);
}

static __always_inline void insert_template(const union key *key, const int keys, __u32 real, __u64 now_ns)
{
	struct crib crib = find_crib(key, keys, now_ns);

	if (crib.words)
		lay_into(&crib, key, keys, real, STATE_TEMPLATE, now_ns);
}

/* Its real is gone. */
static __always_inline void end_embryo(const struct crib *crib, const int keys, const struct connection *young)
{
	count_embryo(young, -1);
	let_go(crib, keys);
}

/* Does the packet make it whole? A second datagram does, and a segment that changes its state: an ACK above all. */
static __always_inline bool grows_up(const struct packet *packet, const struct connection *young)
{
	return packet->protocol != IPPROTO_TCP || next_state(young->state, packet->tcp_flags) != young->state;
}

/* It becomes an entry of the connection table, as it is; its packet changes that then. If two CPUs do so at once, both
 * go by the one that is there. NULL: there is no room. */
static __always_inline struct connection *grow_up(const struct packet *packet, union key *key, const struct crib *crib,
						  const int keys, const struct connection *young, __u32 now_t)
{
	struct connection *found, fresh = {
		.real = young->real,
		.last_seen_t = young->last_seen_t,
		.synced_t = now_t,
		.state = young->state,
	};

	enter(packet, key, &fresh);
	found = find_entry(packet, key);
	if (found)
		let_go(crib, keys);
	return found;
}
