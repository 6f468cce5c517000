/* SPDX-License-Identifier: GPL-2.0-only
 *
 * How a packet gets to its real: `gate` writes the real's MAC over ours and sends the frame out where it came in; a
 * real that is this director itself gets it through the kernel's stack.
 */
static __always_inline enum outcome forward_gate(struct packet *packet, const struct real *real)
{
	struct ethernet *ethernet = packet->ethernet;

	if (!(real->flags & REAL_RESOLVED))
		return OUTCOME_drop_no_neighbour;
	__builtin_memcpy(ethernet->source, ethernet->destination, sizeof(ethernet->source));	/* it was sent to us */
	__builtin_memcpy(ethernet->destination, real->mac, sizeof(ethernet->destination));
	return OUTCOME_tx_packets;
}

static __always_inline enum outcome forward(struct packet *packet, const struct real *real, struct real_stats *stats)
{
	enum outcome outcome = real->flags & REAL_LOCAL ? OUTCOME_passed : forward_gate(packet, real);

	if (outcome != OUTCOME_drop_no_neighbour) {
		stats->packets++;
		stats->bytes += packet->length;
	}
	return outcome;
}
