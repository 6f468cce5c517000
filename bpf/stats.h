/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The one exit: each outcome is a named counter and an action. Counters are per CPU, so that plain additions do.
 */
enum outcome {
	FOREIGN,	/* not a virtual's: passed, untouched, uncounted */
	OURS,		/* not decided yet: goes on to the next step */
	QUESTION,	/* not decided yet: ARP asks for a virtual address */
	SOLICITATION,	/* not decided yet: neighbour discovery does */
	LATER_FRAGMENT,	/* not decided yet: follows the first one of its datagram */
	FOR_KERNEL,	/* not decided yet: the kernel's, if we may speak for the virtual address */
	NEWCOMER,	/* not decided yet: it opens a connection */
#define NAME(name, action) OUTCOME_##name,
	OUTCOMES(NAME)
#undef NAME
};

static __always_inline struct counters *this_cpu(void)
{
	__u32 zero = 0;

	return counters.lookup(&zero);
}

static __always_inline int leave(enum outcome outcome)
{
	struct counters *mine;

	if (outcome == FOREIGN)
		return XDP_PASS;
	mine = this_cpu();
	if (!mine)
		return XDP_ABORTED;
	switch (outcome) {
#define LEAVE(name, action) \
	case OUTCOME_##name: \
		mine->name++; \
		return action;
	OUTCOMES(LEAVE)
#undef LEAVE
	default:
		return XDP_ABORTED;
	}
}
