/* SPDX-License-Identifier: GPL-2.0-only
 *
 * A real for the first packet of a connection. User space keeps a table of real indices for each service, built by
 * lb.schedule so that only usable reals are in it; a scheduler here says which of its slots is next. Each is named as
 * in lb.schedule, returns any number, and is taken modulo the table's length.
 */

/* The cursor is one for all CPUs, so that turns are kept whichever CPU a client's packets arrive at. The increment is
 * not atomic: when two connections open in the same nanoseconds, two clients may get the same turn. */
static __always_inline __u32 schedule_rr(struct schedule *schedule, __be32 client)
{
	return schedule->cursor++;
}

/* The weights are in the table. */
static __always_inline __u32 schedule_wrr(struct schedule *schedule, __be32 client)
{
	return schedule->cursor++;
}

/* IPVS's hash of the source address: the upper 8 bits of a multiplication by 2^32 / phi. */
static __always_inline __u32 schedule_sh(struct schedule *schedule, __be32 client)
{
	return host32(client) * 0x61c88647u >> 24;
}

/* Every bit of the client's address decides over every bit (MurmurHash3's finalizer). */
static __always_inline __u32 schedule_mh(struct schedule *schedule, __be32 client)
{
	__u32 hash = host32(client);

	hash ^= hash >> 16;
	hash *= 0x85ebca6bu;
	hash ^= hash >> 13;
	hash *= 0xc2b2ae35u;
	return hash ^ hash >> 16;
}

/* Generated: SCHEDULERS_USED(_) with _(name). */
enum scheduler {
	SCHEDULER_none,
#define NAME(name) SCHEDULER_##name,
	SCHEDULERS_USED(NAME)
#undef NAME
};

static __always_inline enum scheduler scheduler_of(int service)
{
	switch (service) {
#define CASE(index, address, port, protocol, scheduler) \
	case index: \
		return SCHEDULER_##scheduler;
	SERVICES(CASE)
	SERVICES6(CASE)
#undef CASE
	default:
		return SCHEDULER_none;
	}
}

static __always_inline __u32 next_slot(int service, struct schedule *schedule, __be32 client)
{
	switch (scheduler_of(service)) {
#define CASE(name) \
	case SCHEDULER_##name: \
		return schedule_##name(schedule, client);
	SCHEDULERS_USED(CASE)
#undef CASE
	default:
		return 0;
	}
}

/* The index of the real that gets the connection, in *real. */
static __always_inline enum outcome schedule_connection(int service, __be32 client, __u32 *real)
{
	__u32 row = service, slot, count;
	struct schedule *schedule = schedules.lookup(&row);
	__u64 table, *index;

	if (!schedule)
		return OUTCOME_drop_no_real;
	table = *(volatile __u64 *)&schedule->table;	/* base and count belong together: read once */
	count = table >> 32;
	if (!count)
		return OUTCOME_drop_no_real;
	slot = (__u32)table + next_slot(service, schedule, client) % count;
	index = slots.lookup(&slot);
	if (!index)
		return OUTCOME_drop_no_real;
	*real = *index;
	return OURS;
}
