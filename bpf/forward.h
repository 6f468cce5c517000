/* SPDX-License-Identifier: GPL-2.0-only
 *
 * How a packet gets to its real: `gate` writes the real's MAC over ours and sends the frame out where it came in; `ipip`
 * is in tunnel.h; a real that is this director itself gets it through the kernel's stack.
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

static __always_inline enum outcome forward_by(struct xdp_md *ctx, struct packet *packet, const struct real *real,
					       __u32 index)
{
	if (real->flags & REAL_LOCAL)
		return OUTCOME_passed;
#if TUNNELS
	if (real->flags & REAL_TUNNEL) {
		const struct way *way = ways.lookup(&index);

		return way ? forward_ipip(ctx, packet, real, way) : OUTCOME_drop_no_real;
	}
#endif
	return forward_gate(packet, real);
}

/* Only what gets to the real is counted for it. */
static __always_inline enum outcome forward(struct xdp_md *ctx, struct packet *packet, __u32 index)
{
	const struct real *real = reals.lookup(&index);
	struct real_stats *stats = real_stats.lookup(&index);
	enum outcome outcome;

	if (!real || !stats)
		return OUTCOME_drop_no_real;
	outcome = forward_by(ctx, packet, real, index);
	if (outcome == OUTCOME_tx_packets || outcome == OUTCOME_passed) {
		stats->packets++;
		stats->bytes += packet->length;
	}
	return outcome;
}
