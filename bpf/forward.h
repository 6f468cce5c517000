/* SPDX-License-Identifier: GPL-2.0-only
 *
 * How a packet gets to its real: `gate` writes the real's MAC over ours; `ipip` is in tunnel.h; a real that is this director
 * itself gets it through the kernel's stack.
 */
static __always_inline enum outcome forward_gate(struct xdp_md *ctx, struct packet *packet, const struct real *real,
						 const struct way *way)
{
#if REDIRECTS
	if (is_too_big(packet, way, 0))
		return refuse_too_big(ctx, packet, way, 0);
#endif
	return send(ctx, packet->ethernet, packet->ethernet->destination, real, way);
}

#if !TUNNELS && !REDIRECTS
static __always_inline enum outcome forward_by(struct xdp_md *ctx, struct packet *packet, const struct real *real,
					       __u32 index)
{
	return forward_gate(ctx, packet, real, NULL);
}
#else
static __always_inline enum outcome forward_by(struct xdp_md *ctx, struct packet *packet, const struct real *real,
					       __u32 index)
{
	const struct way *way = ways.lookup(&index);

	if (!way)
		return OUTCOME_drop_no_real;
#if TUNNELS
	if (real->flags & REAL_TUNNEL)
		return forward_ipip(ctx, packet, real, way);
#endif
	return forward_gate(ctx, packet, real, way);
}
#endif

/* Of packets only what gets to the real is counted for it. */
static __always_inline enum outcome forward(struct xdp_md *ctx, struct packet *packet, __u32 index)
{
	const struct real *real = reals.lookup(&index);
	struct real_stats *stats = real_stats.lookup(&index);
	enum outcome outcome;

	if (!real || !stats)
		return OUTCOME_drop_no_real;
	stats->connections += packet->opens;
	if (real->flags & REAL_LOCAL)
		outcome = OUTCOME_passed;
	else if (real->flags & REAL_RESOLVED)
		outcome = forward_by(ctx, packet, real, index);
	else
		return OUTCOME_drop_no_neighbour;
	if (outcome == OUTCOME_tx_packets || outcome == OUTCOME_redirected || outcome == OUTCOME_passed) {
		stats->packets++;
		stats->bytes += packet->length;
	}
	return outcome;
}
