/* SPDX-License-Identifier: GPL-2.0-only
 *
 * A connection that nobody can take. As IPVS does, the client of the packet that opens it is told at once, also of TCP, while
 * this host may speak for the address. Of IPv6 nobody is told yet.
 */
static __always_inline enum outcome refuse(struct xdp_md *ctx, const struct packet *packet)
{
	if (!is_ipv6(packet) && lease_is_fresh(read_clock()) &&
	    answer(ctx, packet, ICMP_UNREACHABLE, ICMP_PORT, 0))
		return OUTCOME_unreachable;
	return OUTCOME_drop_no_real;
}
