/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The lease. The control plane renews it as long as it is alive and means to own the virtual addresses; once it has run
 * out, this host must not claim them any more: its kernel would still answer for them. Packets of known connections are
 * forwarded either way.
 */
static __always_inline bool lease_is_fresh(__u64 now_ns)
{
	__u32 zero = 0;
	struct lease *held = lease.lookup(&zero);

	return held && now_ns < held->until_ns;
}

static __always_inline void end_lease(void)
{
	__u32 zero = 0;
	struct lease *held = lease.lookup(&zero);

	if (held)
		held->until_ns = 0;
}

static __always_inline bool is_referred(const struct ethernet *ethernet, const struct lease *held)
{
#pragma unroll
	for (int i = 0; i < OTHER_DIRECTORS; i++)
		if (is_same_mac(ethernet->source, (const __u16 *)(held->directors + i * MAC_BYTES)))
			return true;
	return false;
}

/* A segment whose connection we do not know, or know as finished. The predecessor may have opened it in the moment in
 * which it died; its packet path outlives its process and still knows. What it does not know either ends there: a frame
 * that comes from a director was referred already, and goes no further. OURS: there is nobody to ask. */
static __always_inline enum outcome refer(struct packet *packet, __u64 now_ns)
{
	struct ethernet *ethernet = packet->ethernet;
	__u32 zero = 0;
	struct lease *held = lease.lookup(&zero);

	if (!held || now_ns >= held->refer_until_ns || is_referred(ethernet, held))
		return OURS;
	write_source(ethernet->source, ethernet->destination);
	__builtin_memcpy(ethernet->destination, held->directors, sizeof(ethernet->destination));
	return OUTCOME_referred;
}

/* The kernel answers with a reset, unless another director may own the address by now. */
static __always_inline enum outcome disown(__u64 now_ns)
{
	return lease_is_fresh(now_ns) ? OUTCOME_passed : OUTCOME_drop_no_lease;
}
