/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The last step of a frame: whose MACs it bears, and by which interface it leaves. Where a director has several, packets of
 * a virtual come in by any of them, and a real is reached by one (REDIRECTS); else all leave where they came in.
 *
 * Generated: REDIRECTS (are there several interfaces?), TUNNELS (has any real one?).
 */

/* ours: the MAC that the frame was sent to. */
static __always_inline enum outcome send(struct xdp_md *ctx, struct ethernet *ethernet, const __u16 *ours,
					 const struct real *real, const struct way *way)
{
	write_source(ethernet->source, ours);
	__builtin_memcpy(ethernet->destination, real->mac, sizeof(ethernet->destination));
#if REDIRECTS
	if (way->interface && way->interface != ctx->ingress_ifindex) {
		__builtin_memcpy(ethernet->source, way->own_mac, sizeof(ethernet->source));
		bpf_redirect(way->interface, 0);
		return OUTCOME_redirected;
	}
#endif
	return OUTCOME_tx_packets;
}

/* Is it too big for its way, with so many bytes more? */
static __always_inline bool is_too_big(const struct packet *packet, const struct way *way, __u32 more)
{
	return way->mtu && packet->length + more > way->mtu;
}

static __always_inline enum outcome refuse_too_big(struct xdp_md *ctx, const struct packet *packet,
						   const struct way *way, __u32 more)
{
#if IPV6_SERVICES
	if (is_ipv6(packet)) {
		__u32 fits = way->mtu - more;

		if (packet->length <= LEAST_MTU)	/* no sender makes it smaller for being told */
			return OUTCOME_drop_too_big;
		return answer_too_big6(ctx, packet, (__s32)fits < LEAST_MTU ? LEAST_MTU : fits) ? OUTCOME_too_big
												: OUTCOME_drop_too_big;
	}
#endif
	return answer(ctx, packet, ICMP_UNREACHABLE, ICMP_TOO_BIG, way->mtu - more) ? OUTCOME_too_big
										     : OUTCOME_drop_too_big;
}
