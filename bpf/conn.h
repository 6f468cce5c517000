/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The connection table: a packet's entry, its TCP state as the client's side alone shows it, its age. All that changes an
 * entry is here.
 *
 * Generated from lb.tcp: TCP_ON_RST, TCP_ON_SYN, TCP_ON_FIN, TCP_ON_ACK, TCP_ON_NONE (a row of IPVS's INPUT-ONLY table
 * each: four bits a state hold the next one), STATE_SYN_RECV, STATE_UDP, REUSABLE_STATES (bits), TIMEOUTS(_) with
 * _(state, ticks). TELLING (0 or 1): is there anybody to tell of it?
 */

/* A key is written as two words: the kernel hashes and compares it by four and eight bytes, and a load that spans
 * several smaller stores has to wait for all of them. */
static __always_inline void write_key(union key *key, const struct packet *packet)
{
	__u64 last = (__u64)packet->protocol << 32 | packet->ports;

	if (is_ipv6(packet)) {
		key->words[0] = packet->client6[0];
		key->words[1] = packet->client6[1];
		key->words[2] = packet->virtual6[0];
		key->words[3] = packet->virtual6[1];
		key->words[4] = last;
	} else {
		key->words[0] = (__u64)packet->virtual << 32 | packet->client;
		key->words[1] = last;
	}
}

/* The entry of a key, in its family's table. */
static __always_inline struct connection *find_entry(const struct packet *packet, union key *key)
{
#if IPV6_SERVICES
	if (is_ipv6(packet))
		return connections6.lookup(&key->ipv6);
#endif
#if IPV4_SERVICES
	if (!is_ipv6(packet))
		return connections.lookup(&key->ipv4);
#endif
	return NULL;
}

/* Not over an entry that is there. Nonzero: it was not entered. */
static __always_inline int enter(const struct packet *packet, union key *key, struct connection *fresh)
{
#if IPV6_SERVICES
	if (is_ipv6(packet))
		return connections6.insert(&key->ipv6, fresh);
#endif
#if IPV4_SERVICES
	if (!is_ipv6(packet))
		return connections.insert(&key->ipv4, fresh);
#endif
	return -1;
}

/* Nonzero: there was none. */
static __always_inline int leave_table(const struct packet *packet, union key *key)
{
#if IPV6_SERVICES
	if (is_ipv6(packet))
		return connections6.delete(&key->ipv6);
#endif
#if IPV4_SERVICES
	if (!is_ipv6(packet))
		return connections.delete(&key->ipv4);
#endif
	return -1;
}

static __always_inline __u8 next_state(__u8 state, __u8 flags)
{
	__u64 row = flags & TCP_RST ? TCP_ON_RST :
		    flags & TCP_SYN ? TCP_ON_SYN :
		    flags & TCP_FIN ? TCP_ON_FIN :
		    flags & TCP_ACK ? TCP_ON_ACK : TCP_ON_NONE;

	return row >> state * 4 & 0xf;
}

static __always_inline __s32 timeout_t(__u8 state)
{
	switch (state) {
#define CASE(state, ticks) \
	case state: \
		return ticks;
	TIMEOUTS(CASE)
#undef CASE
	default:
		return 0;
	}
}

/* Can this packet open a connection? Any datagram, and a SYN that does not reset at once. */
static __always_inline bool may_open(const struct packet *packet)
{
	return packet->protocol != IPPROTO_TCP || (packet->tcp_flags & (TCP_SYN | TCP_RST)) == TCP_SYN;
}

/* Its client may begin another one on the same port. */
static __always_inline bool is_finished(const struct connection *known)
{
	return 1u << known->state & REUSABLE_STATES;
}

/* Signed: user space's clock is a little ahead of ours. */
static __always_inline bool ran_out(const struct connection *known, __u32 now_t)
{
	return known->last_seen_t != now_t && (__s32)(now_t - known->last_seen_t) > timeout_t(known->state);
}

/* Is this entry the packet's? Not if it ran out, or a client begins anew on the port of a finished connection. */
static __always_inline bool goes_on(const struct connection *found, const struct packet *packet, __u32 now_t)
{
	return !ran_out(found, now_t) && !(packet->protocol == IPPROTO_TCP && may_open(packet) && is_finished(found));
}

/* Note that a packet came. Returns whether user space should hear of it: the state changed, or it last heard long ago.
 * Two CPUs may do this at once for one connection; both write the same or a neighbouring state, as in IPVS. */
static __always_inline bool touch(struct connection *known, const struct packet *packet, const struct place *place,
				  __u32 now_t)
{
	bool tell = false;

	if (packet->protocol == IPPROTO_TCP) {
		__u8 state = next_state(known->state, packet->tcp_flags);

		if (state != known->state) {
			count_moved(known->real, known->state, state);
			known->state = state;
			tell = true;
			if (!(1u << state & SETTLED_STATES))
				raise_epoch(place);
		}
	}
	if (known->last_seen_t != now_t) {	/* most packets write nothing: the line stays shared between CPUs */
		known->last_seen_t = now_t;
		tell |= (__s32)(now_t - known->synced_t) >= SYNC_REFRESH_T;	/* signed, as above */
	}
	if (tell)
		known->synced_t = now_t;
	return tell;
}

static __always_inline __u8 first_state(const struct packet *packet)
{
	return packet->protocol == IPPROTO_TCP ? STATE_SYN_RECV : STATE_UDP;
}

/* The entry makes room: it ran out, or its client begins anew. If two CPUs end it at once, one counts it. */
static __always_inline void end_connection(const struct packet *packet, union key *key,
					   const struct connection *found, const struct place *place)
{
	struct connection before = *found;

	if (!leave_table(packet, key))
		count(before.real, before.state, -1);
	raise_epoch(place);
}

/* Should this event wake the reader? The first of a jiffy does. Waking costs as much as ten new connections and more, and
 * a reader that keeps up would be woken by each; this one looks again by itself for a while (lb.datapath.listener). */
static __always_inline __u64 wake_reader(void)
{
	__u32 zero = 0;
	struct clock *clock = clocks.lookup(&zero);

	if (!clock || clock->woken == clock->jiffies)
		return BPF_RB_NO_WAKEUP;
	clock->woken = clock->jiffies;
	return BPF_RB_FORCE_WAKEUP;
}

/* Tell user space, which tells the other directors. A full ring is counted, and repaired by the next refresh. */
static __always_inline void tell_event(const struct packet *packet, const union key *key, __u32 real, __u8 state,
				       __u32 now_t)
{
#if TELLING
	struct counters *mine;
	int lost = 0;

#if IPV6_SERVICES
	if (is_ipv6(packet)) {
		struct event6 event = { .key = key->ipv6, .real = real, .last_seen_t = now_t, .state = state };

		lost = events6.ringbuf_output(&event, sizeof(event), wake_reader());
	}
#endif
#if IPV4_SERVICES
	if (!is_ipv6(packet)) {
		struct event event = { .key = key->ipv4, .real = real, .last_seen_t = now_t, .state = state };

		lost = events.ringbuf_output(&event, sizeof(event), wake_reader());
	}
#endif
	if (lost) {
		mine = this_cpu();
		if (mine)
			mine->events_lost++;
	}
#endif
}
