/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Fragments. Only the first one of a datagram has ports; where it went is kept in `datagrams`, and the later ones follow.
 * One that comes before the first, by another path or because its sender begins at the end, cannot know where that will
 * go. It is set aside: user space holds it, and puts it through the program again when the first one has come
 * (lb.datapath.fragments, docs/adr/0007-fragments.md).
 *
 * Generated: DATAGRAMS_MAX; FRAGMENT_TIMEOUT_T: how long a datagram's fragments find each other; EARLY_A_TICK: how many
 * are set aside on a CPU in a tick, so that a flood of them does not keep user space busy; EARLY_BYTES: of one.
 * In the place of a real's index, what became of the first fragment: DATAGRAM_WAITS (it has not come), DATAGRAM_PASSED
 * (the kernel has it), DATAGRAM_DROPPED.
 */

static __always_inline void write_datagram_key(struct datagram_key *key, const struct packet *packet)
{
	const __be64 mapped = be32(0xffff);

	__builtin_memset(key, 0, sizeof(*key));
	if (is_ipv6(packet)) {
		__builtin_memcpy(key->client, packet->client6, sizeof(key->client));
		__builtin_memcpy(key->virtual, packet->virtual6, sizeof(key->virtual));
	} else {
		key->client[1] = (__u64)packet->client << 32 | mapped;
		key->virtual[1] = (__u64)packet->virtual << 32 | mapped;
		key->protocol = packet->protocol;
	}
	key->id = packet->id;
}

/* An identification comes again, IPv4's after 65,536 datagrams to the same host. */
static __always_inline bool is_current(const struct datagram *datagram, __u32 now_t)
{
	return (__s32)(now_t - datagram->seen_t) <= FRAGMENT_TIMEOUT_T;
}

/* May one more be set aside on this CPU in this tick? */
static __always_inline bool is_within_pace(__u32 now_t)
{
	__u32 zero = 0;
	struct pace *mine = paces.lookup(&zero);

	if (!mine)
		return false;
	if (mine->tick != now_t) {
		mine->tick = now_t;
		mine->count = 0;
	}
	if (mine->count >= EARLY_A_TICK)
		return false;
	mine->count++;
	return true;
}

/* Give the frame to user space; what goes on is as good as dropped, and may be made longer, to whole words. */
static __always_inline enum outcome hand_over(struct xdp_md *ctx, const struct packet *packet,
					      const struct datagram_key *key)
{
	__u32 length = end_of(ctx) - frame_of(ctx);
	const __u64 *from;
	const void *end;
	struct early *early;
	int i;

	if (BEYOND(packet) || length > EARLY_BYTES || bpf_xdp_adjust_tail(ctx, -length & 7))
		return OUTCOME_drop_fragment;
	early = earlies.ringbuf_reserve(sizeof(*early));
	if (!early)
		return OUTCOME_drop_fragment;
	early->datagram = *key;
	early->length = length;
	from = frame_of(ctx);
	end = end_of(ctx);
	for (i = 0; i < EARLY_BYTES / 8 && (const void *)(from + 1) <= end; i++) {
		early->words[i] = *from++;
		asm volatile("" : "+r"(from));	/* else clang counts first what the verifier must see compared */
	}
	earlies.ringbuf_submit(early, 0);
	return OUTCOME_set_aside;
}

/* A later fragment goes where the first one went, unless it begins within that: the ports by which a real was chosen
 * must not be written over on the way there (RFC 1858, RFC 5722). While that is unknown it is set aside, but its datagram is entered
 * before: whoever brings the first one then sees that another waits, and says so; or user space, which gets the frame
 * after that, sees that the first one has come. */
static __always_inline enum outcome follow_first(struct xdp_md *ctx, const struct packet *packet, __u64 now_ns,
						 __u32 *index)
{
	__u32 now_t = now_ns >> TICK_SHIFT;
	struct datagram waits = { .real = DATAGRAM_WAITS, .seen_t = now_t };
	struct datagram_key key;
	struct datagram *found;

	write_datagram_key(&key, packet);
	found = datagrams.lookup(&key);
	if (!found || !is_current(found, now_t) || found->real == DATAGRAM_WAITS) {
		if (!is_within_pace(now_t))
			return OUTCOME_drop_fragment;
		if (found && !is_current(found, now_t))
			datagrams.update(&key, &waits);
		if (found || !datagrams.insert(&key, &waits))
			return hand_over(ctx, packet, &key);
		found = datagrams.lookup(&key);		/* the first one came on another CPU, just now */
		if (!found || found->real == DATAGRAM_WAITS)
			return hand_over(ctx, packet, &key);
	}
	switch (found->real) {
	case DATAGRAM_PASSED:
		return OUTCOME_passed;
	case DATAGRAM_DROPPED:
		return OUTCOME_drop_fragment;
	default:
		if (packet->cut < found->first_bytes)
			return OUTCOME_drop_fragment;
		*index = found->real;
		return OURS;
	}
}

/* Tell user space that it may let go of what it holds of this datagram. If the ring is full, it looks by itself. */
static __always_inline void call_early(const struct datagram_key *key)
{
	struct early *early = earlies.ringbuf_reserve(sizeof(*early));

	if (!early)
		return;
	early->datagram = *key;
	early->length = 0;
	earlies.ringbuf_submit(early, 0);
}

/* Of a first fragment that leaves like this: the later ones follow, also those that came before. */
static __always_inline void lead_later(const struct packet *packet, enum outcome outcome, __u32 index, __u64 now_ns)
{
	__u32 now_t = now_ns >> TICK_SHIFT;
	struct datagram fate = {
		.real = outcome == OUTCOME_tx_packets || outcome == OUTCOME_redirected ? index :
			outcome == OUTCOME_passed || outcome == FOREIGN ? DATAGRAM_PASSED : DATAGRAM_DROPPED,
		.seen_t = now_t,
		.first_bytes = packet->cut,
	};
	struct datagram_key key;
	struct datagram *found;
	bool waited;

	write_datagram_key(&key, packet);
	found = datagrams.lookup(&key);
	if (!found) {
		if (!datagrams.insert(&key, &fate))
			return;
		found = datagrams.lookup(&key);
	}
	waited = found && found->real == DATAGRAM_WAITS && is_current(found, now_t);
	datagrams.update(&key, &fate);
	if (waited)
		call_early(&key);
}
