/* SPDX-License-Identifier: GPL-2.0-only
 *
 * A service's usable reals, one after the other, for schedulers that compare them. Formulas: IPVS's, as fractions that
 * are compared by cross-multiplication; the earlier real wins where two are equal.
 *
 * Kernels check every turn of a loop when they load the program, on every path through it. So the loops are bounded by
 * LIST_MAX (generated: a power of two of at least 64), a turn has few branches, and a comparison in
 * progress lies in a map: what is on the stack they follow value by value, what is read from a map is just any number.
 */
#define NOBODY 0xffffffffu

/* The first packet of a connection that wants a real. */
struct request {
	int service;
	struct schedule *schedule;
	const struct packet *packet;
	__u32 now_t;
};

/* `room` has all bits set, or none if the real is full. */
struct candidate {
	__u32 real;
	__u32 position;
	__u64 weight;
	__u64 active;
	__u64 inactive;
	__s64 room;
};

/* Smaller is better. per 0: not to be chosen; the of is 0 then, too. */
struct cost {
	__s64 of;
	__s64 per;
};

#define WORST_OF_ALL ((struct cost){ 1, 0 })	/* anything that may be chosen is below it */
#define BEST_OF_ALL ((struct cost){ -1, 1 })	/* and is above this */

static __always_inline bool is_below(struct cost a, struct cost b)
{
	return a.of * b.per < b.of * a.per;	/* 2^32 connections * 257 * 2^16: no overflow */
}

static __always_inline struct cost only_if(struct cost cost, __s64 mask)
{
	return (struct cost){ cost.of & mask, cost.per & mask };
}

/* An active connection counts for 256 inactive ones. */
static __always_inline __u64 overhead(const struct candidate *candidate)
{
	return candidate->active * 256 + candidate->inactive;
}

/* Fewest connections. */
static __always_inline struct cost cost_lc(const struct candidate *candidate)
{
	return (struct cost){ overhead(candidate), 1 };
}

/* Fewest connections for its weight. */
static __always_inline struct cost cost_wlc(const struct candidate *candidate)
{
	return (struct cost){ overhead(candidate), candidate->weight };
}

/* The shortest delay to expect: as if it had the new connection already. */
static __always_inline struct cost cost_sed(const struct candidate *candidate)
{
	return (struct cost){ candidate->active + 1, candidate->weight };
}

/* Nobody waits while one is idle; else as sed. */
static __always_inline struct cost cost_nq(const struct candidate *candidate)
{
	return candidate->active ? cost_sed(candidate) : (struct cost){ 0, 1 };
}

/* The highest weight. */
static __always_inline struct cost cost_fo(const struct candidate *candidate)
{
	return (struct cost){ 1, candidate->weight };
}

/* The highest weight with no more active connections than that. */
static __always_inline struct cost cost_ovf(const struct candidate *candidate)
{
	return candidate->active > candidate->weight ? (struct cost){ 0, 0 } : cost_fo(candidate);
}

struct choice {
	struct cost cost;
	struct candidate candidate;
};

struct survey {
	struct choice best;
	struct choice member, worst;	/* these and the next are lblc's and lblcr's */
	__u64 members;
	__u64 idle;
};
BPF_TABLE("percpu_array", __u32, struct survey, surveys, 1);

static __always_inline struct survey *new_survey(void)
{
	__u32 zero = 0;
	struct survey *survey = surveys.lookup(&zero);

	if (survey) {
		survey->best.cost = survey->member.cost = WORST_OF_ALL;
		survey->worst.cost = BEST_OF_ALL;
		survey->best.candidate.real = survey->member.candidate.real = NOBODY;
		survey->members = survey->idle = 0;
	}
	return survey;
}

static __always_inline void choose(struct choice *choice, const struct candidate *candidate, struct cost cost)
{
	choice->cost = cost;
	choice->candidate = *candidate;
}

/* The candidates of a service. */
struct list {
	const struct candidates *candidates;
	__u32 count;
	__u32 meaning;
};

static __always_inline bool open_list(const struct request *request, struct list *list)
{
	__u64 current = *(volatile __u64 *)&request->schedule->list;
	__u32 row = current;

	list->count = current >> 32 & 0xffff;
	list->meaning = current >> 48;
	list->candidates = lists.lookup(&row);
	return list->candidates;
}

static __always_inline bool candidate_at(const struct list *list, __u32 n, struct candidate *candidate)
{
	__u64 entry = list->candidates->entries[n & (LIST_MAX - 1)];
	__u32 real = entry;
	const struct load *load = loads.lookup(&real);

	if (!load)
		return false;
	candidate->real = real;
	candidate->position = entry >> 48;
	candidate->weight = entry >> 32 & 0xffff;
	candidate->active = active_in(load);
	candidate->inactive = inactive_in(load);
	candidate->room = THRESHOLDS ? (__s64)load->full - 1 : -1;
	return true;
}

/* Keeps clang from holding in registers what is to lie in the map. */
#define FORGET asm volatile("" ::: "memory")

/* Keeps clang from counting turns itself: it would make `n != min(LIST_MAX, count)` of the two bounds below, and kernels
 * before 6.8 learn nothing from an unequal that ends a loop. */
#define UNCOUNTED(n) ({ asm volatile("" : "+r"(n)); n; })

#define EACH_CANDIDATE(n, list) _Pragma("nounroll") for (n = 0; UNCOUNTED(n) < LIST_MAX && n < (list)->count; n++)

typedef struct cost (*cost_function)(const struct candidate *);

/* The real of the smallest cost. */
static __always_inline __u32 least(const struct request *request, cost_function cost_of)
{
	struct survey *survey = new_survey();
	struct list list;
	__u32 n;

	if (!survey || !open_list(request, &list))
		return NOBODY;
	EACH_CANDIDATE(n, &list) {
		struct candidate candidate;
		struct cost cost;

		if (!candidate_at(&list, n, &candidate))
			break;
		cost = only_if(cost_of(&candidate), candidate.room);
		if (is_below(cost, survey->best.cost))
			choose(&survey->best, &candidate, cost);
		FORGET;
	}
	return survey->best.candidate.real;
}

/* The first in order that is not full, from `start` on. */
static __always_inline __u32 anybody(const struct request *request, __u32 start)
{
	struct list list;
	__u32 n;

	if (!THRESHOLDS || !open_list(request, &list) || !list.count)
		return NOBODY;
	EACH_CANDIDATE(n, &list) {
		struct candidate candidate;

		if (candidate_at(&list, (start + n) % list.count, &candidate) && candidate.room)
			return candidate.real;
	}
	return NOBODY;
}
