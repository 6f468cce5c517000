/* SPDX-License-Identifier: GPL-2.0-only
 *
 * How many connections each real has, active and inactive, kept as they open, change state and are replaced. What ends
 * without a packet (timeouts, entries pushed out of the LRU table) only the sweeper sees, and puts right: it counts the
 * table. Compiled in only where a scheduler or a threshold goes by it.
 *
 * The counts are shared by all CPUs: a scheduler reads those of every real for one connection, and a sum over the CPUs
 * would be as many lines again (and no helper of Linux 5.10 reads another CPU's). They are written when a connection
 * opens or changes between active and inactive, two or three times in its life.
 *
 * Generated: COUNTING, THRESHOLDS (0 or 1), ACTIVE_STATES (bits).
 */

/* Without a branch, so that kernels have fewer paths to check: 0 if negative, as between two stores of user space. */
static __always_inline __u32 not_negative(__s32 count)
{
	return count & ~(count >> 31);
}

static __always_inline __u32 active_in(const struct load *load)
{
	return not_negative(load->active + load->active_fix);
}

static __always_inline __u32 inactive_in(const struct load *load)
{
	return not_negative(load->inactive + load->inactive_fix);
}

/* IPVS's thresholds: full at `upper`, and so until there are fewer than `lower`. */
static __always_inline void mark_full(struct load *load)
{
#if THRESHOLDS
	__u64 all = (__u64)active_in(load) + inactive_in(load);

	if (load->full ? all < load->lower : load->upper && all >= load->upper)
		load->full = !load->full;
#endif
}

static __always_inline bool is_active(__u8 state)
{
	return 1u << state & ACTIVE_STATES;
}

static __always_inline void add_to(struct load *load, __u8 state, __s32 by)
{
	if (is_active(state))
		__sync_fetch_and_add(&load->active, by);
	else
		__sync_fetch_and_add(&load->inactive, by);
}

/* `by` more connections of a real in a state. */
static __always_inline void count(__u32 real, __u8 state, __s32 by)
{
#if COUNTING
	struct load *load = loads.lookup(&real);

	if (!load)
		return;
	add_to(load, state, by);
	mark_full(load);
#endif
}

/* No more and no fewer: it gets no fuller by this. */
static __always_inline void count_moved(__u32 real, __u8 from, __u8 to)
{
#if COUNTING
	struct load *load;

	if (is_active(from) == is_active(to))
		return;
	load = loads.lookup(&real);
	if (!load)
		return;
	add_to(load, from, -1);
	add_to(load, to, 1);
#endif
}
