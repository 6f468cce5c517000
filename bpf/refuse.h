/* SPDX-License-Identifier: GPL-2.0-only
 *
 * A connection that nobody can take. As IPVS does, the client of the packet that opens it is told at once, also of TCP, while
 * this host may speak for the address.
 */
static __always_inline bool answer_unreachable(struct xdp_md *ctx, const struct packet *packet)
{
#if IPV6_SERVICES
	if (is_ipv6(packet))
		return answer_unreachable6(ctx, packet);
#endif
	return answer(ctx, packet, ICMP_UNREACHABLE, ICMP_PORT, 0);
}

static __always_inline enum outcome refuse(struct xdp_md *ctx, const struct packet *packet)
{
	return lease_is_fresh(read_clock()) && answer_unreachable(ctx, packet) ? OUTCOME_unreachable : OUTCOME_drop_no_real;
}
