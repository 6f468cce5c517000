/* SPDX-License-Identifier: GPL-2.0-only
 *
 * SYNs that come again: their client heard nothing, and its real may be dead. With direct routing no answer passes here,
 * so that this is all that packets tell of a real's health; user space has it checked at once (`passive`).
 *
 * Compiled in only where a check asks for it. Generated: REPEATS (0 or 1), STATE_SYN_RECV.
 */

/* A packet of a known connection, before it is noted there. */
static __always_inline void note_repeat(const struct connection *known, const struct packet *packet)
{
#if REPEATS
	__u32 real = known->real;
	struct load *load;

	if (known->state != STATE_SYN_RECV || !may_open(packet))
		return;
	load = loads.lookup(&real);
	if (load)
		__sync_fetch_and_add(&load->repeats, 1);
#endif
}
