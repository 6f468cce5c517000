/* SPDX-License-Identifier: GPL-2.0-only
 *
 * A real for the first packet of a connection. Each scheduler is named as in lb/reference/sched.py and returns the
 * index of a real or NOBODY. Those by turns and by hash pick a slot of a table that user space built; those by counts
 * compare the candidates (candidate.h); lblc and lblcr have a header of their own (locality.h).
 *
 * Generated: SCHEDULERS_USED(_) with _(name, number); SERVICE_ and a name of lb.abi.ServiceFlag; TRIES, slots that are
 * looked at for a real that is not full.
 */
static __always_inline bool takes(__u32 real)
{
#if THRESHOLDS
	const struct load *load = loads.lookup(&real);

	return load && !load->full;
#else
	return real != NOBODY;
#endif
}

static __always_inline __u32 table_slot(__u64 table, __u32 n)
{
	__u32 slot = (__u32)table + n % (__u32)(table >> 32);
	__u64 *real = slots.lookup(&slot);

	return real ? *real : NOBODY;
}

/* The cursor is one for all CPUs, so that turns are kept whichever CPU a client's packets arrive at. The increment is
 * not atomic: when two connections open in the same nanoseconds, two clients may get the same turn. */
static __always_inline __u32 in_turn(const struct request *request)
{
	__u64 table = *(volatile __u64 *)&request->schedule->table;	/* base and count belong together: read once */
	__u32 cursor = request->schedule->cursor, real, n;

	if (!(table >> 32))
		return NOBODY;
	_Pragma("nounroll")
	for (n = 0; n < TRIES; n++) {
		real = table_slot(table, cursor++);
		request->schedule->cursor = cursor;
		if (takes(real))
			return real;
	}
	return anybody(request, cursor);
}

static __always_inline __u32 schedule_rr(const struct request *request)
{
	return in_turn(request);
}

/* The weights are in the table. */
static __always_inline __u32 schedule_wrr(const struct request *request)
{
	return in_turn(request);
}

static __always_inline bool has_flag(const struct request *request, __u32 flag)
{
	return request->schedule->flags & flag;
}

/* What hashes go by. */
static __always_inline __u32 client_of(const struct request *request)
{
	return host32(hashed_client(request->packet)) +
	       (has_flag(request, SERVICE_HASH_PORT) ? host16(request->packet->ports & 0xffff) : 0);
}

/* The owner of the hash's slot; if it is full, and the service falls back, the first that is not. After slot s the
 * search begins at step_by * s + step. */
static __always_inline __u32 by_hash(const struct request *request, __u32 hash, __u32 step_by, __u32 step)
{
	__u64 table = *(volatile __u64 *)&request->schedule->table;
	__u32 count = table >> 32, real, n;

	if (!count)
		return NOBODY;
	real = table_slot(table, hash);
	if (takes(real))
		return real;
#if THRESHOLDS
	if (!has_flag(request, SERVICE_HASH_FALLBACK))
		return NOBODY;
	hash = (hash % count * step_by + step) % count;
	_Pragma("nounroll")
	for (n = 0; n < TRIES; n++) {
		real = table_slot(table, hash + n);
		if (takes(real))
			return real;
	}
	return anybody(request, hash);
#else
	return NOBODY;
#endif
}

/* IPVS's hash of an address: the upper 8 bits of a multiplication by 2^32 / phi. */
static __always_inline __u32 hash_sh(__u32 value)
{
	return value * 0x61c88647u >> 24;
}

static __always_inline __u32 schedule_sh(const struct request *request)
{
	return by_hash(request, hash_sh(client_of(request)), 2, 0);
}

static __always_inline __u32 schedule_dh(const struct request *request)
{
	return by_hash(request, hash_sh(host32(hashed_virtual(request->packet))), 2, 0);
}

/* Every bit of the value decides over every bit (MurmurHash3's finalizer). */
static __always_inline __u32 hash_mh(__u32 value)
{
	value ^= value >> 16;
	value *= 0x85ebca6bu;
	value ^= value >> 13;
	value *= 0xc2b2ae35u;
	return value ^ value >> 16;
}

static __always_inline __u32 schedule_mh(const struct request *request)
{
	return by_hash(request, hash_mh(client_of(request)), 1, 1);
}

static __always_inline __u32 schedule_lc(const struct request *request)
{
	return least(request, cost_lc);
}

static __always_inline __u32 schedule_wlc(const struct request *request)
{
	return least(request, cost_wlc);
}

static __always_inline __u32 schedule_sed(const struct request *request)
{
	return least(request, cost_sed);
}

static __always_inline __u32 schedule_nq(const struct request *request)
{
	return least(request, cost_nq);
}

static __always_inline __u32 schedule_fo(const struct request *request)
{
	return least(request, cost_fo);
}

static __always_inline __u32 schedule_ovf(const struct request *request)
{
	return least(request, cost_ovf);
}

static __always_inline __u32 schedule(const struct request *request)
{
	switch (request->schedule->scheduler) {
#define CASE(name, number) \
	case number: \
		return schedule_##name(request);
	SCHEDULERS_USED(CASE)
#undef CASE
	default:
		return NOBODY;
	}
}

/* The index of the real that gets the connection, in *real. */
static __always_inline enum outcome schedule_connection(int service, const struct packet *packet, __u32 now_t,
							__u32 *real)
{
	struct request request = { .service = service, .packet = packet, .now_t = now_t };
	__u32 row = service;

	request.schedule = schedules.lookup(&row);
	if (!request.schedule)
		return OUTCOME_drop_no_real;
	*real = schedule(&request);
	return *real == NOBODY ? OUTCOME_drop_no_real : OURS;
}
