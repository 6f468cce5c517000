/* SPDX-License-Identifier: GPL-2.0-only
 *
 * lblc and lblcr: which reals serve a destination address already, so that caches keep what they have. One entry an
 * address and service, in an LRU table; void when unused for LOCALITY_T, or when positions have another meaning. CPUs
 * may change an entry at once: then a real is a member or not that the other one thought otherwise of, and no harm done.
 */
static __always_inline struct locality *find_locality(const struct request *request, const struct list *list)
{
	struct locality_key key = {
		.destination = hashed_virtual(request->packet),
		.service = request->service,
	};
	struct locality fresh = {}, *found = localities.lookup(&key);

	if (!found) {
		localities.update(&key, &fresh);
		found = localities.lookup(&key);
		if (!found)
			return NULL;
	}
	if (found->meaning != list->meaning || request->now_t - found->used_t > LOCALITY_T) {
		*found = fresh;
		found->meaning = list->meaning;
	}
	found->used_t = request->now_t;
	return found;
}

static __always_inline __u64 *member_word(struct locality *locality, __u32 position)
{
	return &locality->members[position / 64 & (LIST_MAX / 64 - 1)];
}

static __always_inline bool is_member(struct locality *locality, __u32 position)
{
	return *member_word(locality, position) >> (position & 63) & 1;
}

static __always_inline void join(struct locality *locality, __u32 position)
{
	*member_word(locality, position) |= 1ull << (position & 63);
}

static __always_inline void part(struct locality *locality, __u32 position)
{
	*member_word(locality, position) &= ~(1ull << (position & 63));
}

/* One look at all reals: wlc's choice, the least and the most loaded member of those that serve the address, and
 * whether anybody has use of less than half its weight. */
static __always_inline void look(const struct list *list, struct locality *locality, struct survey *survey)
{
	__u32 n;

	EACH_CANDIDATE(n, list) {
		struct candidate candidate;
		struct cost cost;
		__s64 member;

		if (!candidate_at(list, n, &candidate))
			break;
		member = is_member(locality, candidate.position) & candidate.room;
		cost = only_if(cost_wlc(&candidate), candidate.room);
		survey->idle |= (2 * candidate.active - candidate.weight) >> 63;
		if (is_below(cost, survey->best.cost))
			choose(&survey->best, &candidate, cost);
		survey->members += member;
		cost = only_if(cost, -member);
		if (is_below(cost, survey->member.cost))
			choose(&survey->member, &candidate, cost);
		if (is_below(survey->worst.cost, cost))
			choose(&survey->worst, &candidate, cost);
		FORGET;
	}
}

/* Does the address stay with its least loaded member? Not if that has more active connections than its weight, while
 * another real has less than half. */
static __always_inline bool stays(const struct survey *survey)
{
	const struct candidate *member = &survey->member.candidate;

	return member->real != NOBODY && !(survey->idle && member->active > member->weight);
}

/* The real that serves this destination address already, unless it is overloaded; else wlc's. */
static __always_inline __u32 schedule_lblc(const struct request *request)
{
	struct survey *survey = new_survey();
	struct locality *locality;
	struct list list;

	if (!survey || !open_list(request, &list))
		return NOBODY;
	locality = find_locality(request, &list);
	if (!locality)
		return NOBODY;
	look(&list, locality, survey);
	if (stays(survey))
		return survey->member.candidate.real;
	__builtin_memset(locality->members, 0, sizeof(locality->members));
	if (survey->best.candidate.real != NOBODY)
		join(locality, survey->best.candidate.position);
	return survey->best.candidate.real;
}

/* The least loaded of those that serve this destination address; if it is overloaded, wlc's joins them. A set that has
 * not changed for LOCALITY_T loses its most loaded member. */
static __always_inline __u32 schedule_lblcr(const struct request *request)
{
	struct survey *survey = new_survey();
	struct locality *locality;
	struct list list;

	if (!survey || !open_list(request, &list))
		return NOBODY;
	locality = find_locality(request, &list);
	if (!locality)
		return NOBODY;
	look(&list, locality, survey);
	if (survey->members > 1 && request->now_t - locality->changed_t > LOCALITY_T) {
		part(locality, survey->worst.candidate.position);
		locality->changed_t = request->now_t;
	}
	if (stays(survey))
		return survey->member.candidate.real;
	if (survey->best.candidate.real != NOBODY && !is_member(locality, survey->best.candidate.position)) {
		join(locality, survey->best.candidate.position);
		locality->changed_t = request->now_t;
	}
	return survey->best.candidate.real;
}
