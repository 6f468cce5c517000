/* SPDX-License-Identifier: GPL-2.0-only
 *
 * To which real does a client belong? IPVS's templates: an entry of the connection table that is no connection, keyed by
 * the client's address under a mask, without port, and the service. New connections of the client go to its real as
 * long as that may have any, and renew it; user space alone ends it, since it must not end while connections that
 * came by it are there (lb.datapath.templates).
 *
 * Of a group, which has several addresses, ports and protocols, it is the first ones that are in the key.
 *
 * Generated, numbers in host order: PERSISTENCE (0 or 1); PERSISTENT(_) with _(service, protocol, port, mask, virtual);
 * PERSISTENT6(_) with _(service, protocol, port, high, low, virtual_high, virtual_low), the mask's two halves first;
 * EXPIRING_QUIESCENT(_) and ONE_PACKET(_) with _(service).
 */
static __always_inline bool is_one_packet(int service)
{
	switch (service) {
#define CASE(service) \
	case service: \
		return true;
	ONE_PACKET(CASE)
#undef CASE
	default:
		return false;
	}
}

static __always_inline bool expires_quiescent(int service)
{
	switch (service) {
#define CASE(service) \
	case service: \
		return true;
	EXPIRING_QUIESCENT(CASE)
#undef CASE
	default:
		return false;
	}
}

/* The last word of a template's key. */
static __always_inline __u64 template_of(__u8 protocol, __be16 port)
{
	return 1ull << 40 | (__u64)protocol << 32 | (__u32)port << 16;
}

/* Is the service persistent? Then the key of the client's template is written. */
static __always_inline bool find_template(const struct packet *packet, int service, union key *key)
{
	switch (service) {
#define CASE(service, protocol, port, mask, virtual) \
	case service: \
		key->words[0] = (__u64)be32(virtual) << 32 | (packet->client & be32(mask)); \
		key->words[1] = template_of(protocol, be16(port)); \
		return true;
	PERSISTENT(CASE)
#undef CASE
#define CASE(service, protocol, port, high, low, virtual_high, virtual_low) \
	case service: \
		key->words[0] = packet->client6[0] & be64(high); \
		key->words[1] = packet->client6[1] & be64(low); \
		key->words[2] = be64(virtual_high); \
		key->words[3] = be64(virtual_low); \
		key->words[4] = template_of(protocol, be16(port)); \
		return true;
	PERSISTENT6(CASE)
#undef CASE
	default:
		return false;
	}
}

/* A fallback binds nobody: it serves until one of the others can. */
static __always_inline bool may_bind(const struct real *real, int service)
{
	return real && !(real->flags & (REAL_RETIRED | REAL_GONE | REAL_FALLBACK)) &&
	       (real->weight || !expires_quiescent(service));
}

/* The real that the client belongs to in *index, if it may have new connections. Telling it once a tick keeps the other
 * directors' copies as young as ours. */
static __always_inline bool follow(struct newcomer *newcomer, struct connection *found, __u32 *index, __u32 now_t)
{
	*index = found->real;
	if (!may_bind(reals.lookup(index), newcomer->service))
		return false;
	if (found->last_seen_t != now_t) {
		found->last_seen_t = found->synced_t = now_t;
		tell_event(&newcomer->packet, &newcomer->template, *index, STATE_TEMPLATE, now_t);
	}
	return true;
}

static __always_inline bool follow_in(struct newcomer *newcomer, const int keys, __u32 *index)
{
	struct crib crib = find_crib(&newcomer->template, keys, newcomer->now_ns);
	struct connection young;

	if (!find_embryo(&crib, keys, newcomer->now_ns, &young))
		return false;
	*index = young.real;
	if (!may_bind(reals.lookup(index), newcomer->service))
		return false;
	write_value(&crib, keys, newcomer->now_ns, young.real, young.state);
	return true;
}

/* The same of a template that is half-open, as its client's connections are: nobody is told of it. */
static __always_inline bool follow_embryo(struct newcomer *newcomer, __u32 *index)
{
	return is_ipv6(&newcomer->packet) ? follow_in(newcomer, KEY6_WORDS, index)
					  : follow_in(newcomer, KEY4_WORDS, index);
}

/* Enter a template. If two CPUs do so at once, both go by the one that came first. */
static __always_inline enum outcome enter_template(const struct packet *packet, union key *key, __u32 *index,
						   __u32 now_t)
{
	struct connection fresh = {
		.real = *index,
		.last_seen_t = now_t,
		.synced_t = now_t,
		.state = STATE_TEMPLATE,
	};
	struct connection *found;

	if (enter(packet, key, &fresh)) {
		found = find_entry(packet, key);
		if (!found)
			return OUTCOME_drop_table_full;
		*index = found->real;
	}
	tell_event(packet, key, *index, STATE_TEMPLATE, now_t);
	return OURS;
}

/* Let the client belong to who was chosen: a new one half-open. */
static __always_inline enum outcome bind(struct newcomer *newcomer, __u32 *index, __u32 now_t)
{
	if (!may_bind(reals.lookup(index), newcomer->service))
		return OURS;
	if (newcomer->binds == ANEW) {
		if (is_ipv6(&newcomer->packet))
			insert_template(&newcomer->template, KEY6_WORDS, *index, newcomer->now_ns);
		else
			insert_template(&newcomer->template, KEY4_WORDS, *index, newcomer->now_ns);
		return OURS;
	}
	leave_table(&newcomer->packet, &newcomer->template);
	return enter_template(&newcomer->packet, &newcomer->template, index, now_t);
}

/* A connection of a client is whole, and so is its template now, unless it has been. */
static __always_inline void bind_for_good(const struct packet *packet, struct newcomer *newcomer, __u32 real)
{
#if PERSISTENCE
	const int keys = key_words(packet);
	struct connection young;
	struct crib crib;

	if (!find_template(packet, newcomer->service, &newcomer->template) ||
	    !may_bind(reals.lookup(&real), newcomer->service))
		return;
	crib = find_crib(&newcomer->template, keys, newcomer->now_ns);
	if (find_embryo(&crib, keys, newcomer->now_ns, &young))
		let_go(&crib, keys);
	if (!find_entry(packet, &newcomer->template))
		enter_template(packet, &newcomer->template, &real, newcomer->now_ns >> TICK_SHIFT);
#endif
}

/* The real for the first packet of a connection: its client's, or one that the scheduler chooses. */
static __always_inline enum outcome choose_real(struct newcomer *newcomer, __u32 *index, __u32 now_t)
{
	enum outcome outcome;
#if PERSISTENCE
	struct connection *found;

	newcomer->binds = NOT_AT_ALL;
	if (find_template(&newcomer->packet, newcomer->service, &newcomer->template)) {
		found = find_entry(&newcomer->packet, &newcomer->template);
		if (found ? follow(newcomer, found, index, now_t) : follow_embryo(newcomer, index))
			return OURS;
		newcomer->binds = found ? AGAIN : ANEW;
	}
#endif
	outcome = schedule_connection(newcomer->service, &newcomer->packet, now_t, index);
#if PERSISTENCE
	if (outcome == OURS && *(volatile __u32 *)&newcomer->binds != NOT_AT_ALL)
		return bind(newcomer, index, now_t);
#endif
	return outcome;
}
