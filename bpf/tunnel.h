/* SPDX-License-Identifier: GPL-2.0-only
 *
 * `ipip`: the packet as it is, inside another one from this director to the real (RFC 2003), for reals behind routers.
 * The outer header has the inner's DSCP and ECN (RFC 6040, normal mode), its identification, and always DF, also for a
 * packet that came without: nobody fragments on the way, and nobody has to put together what an attacker made up.
 *
 * The frame leaves without VLAN tags, whatever it came with: the kernel's route is by the interface itself.
 *
 * So what is too big must be said at once, from the virtual address and whether it came with DF or not: the sender then
 * sends smaller segments, or fragments by itself.
 *
 * Generated: TUNNELS (does any real have one?).
 */
#if TUNNELS
/* Of an address that is IPv4-mapped. */
static __always_inline __be32 ipv4_of(const __be64 *address)
{
	return ((const __be32 *)address)[3];
}

static __always_inline enum outcome forward_ipip(struct xdp_md *ctx, struct packet *packet, const struct real *real,
						 const struct way *way)
{
	struct ethernet came = *packet->ethernet, *ethernet;
	const struct iphdr *inner = ip_of(ctx, packet);
	struct iphdr *outer;
	__be16 id;
	__u8 tos;

	if (!inner)
		return OUTCOME_drop_malformed;
	if (is_too_big(packet, way, sizeof(*outer)))
		return refuse_too_big(ctx, packet, way, sizeof(*outer));

	id = inner->id;
	tos = inner->tos;
	if (bpf_xdp_adjust_head(ctx, (packet->link & 31) - (int)(sizeof(*ethernet) + sizeof(*outer))))
		return OUTCOME_drop_no_headroom;
	ethernet = (void *)(long)ctx->data;
	outer = (void *)(ethernet + 1);
	if ((void *)(outer + 1) > (void *)(long)ctx->data_end)
		return OUTCOME_drop_no_headroom;
	ethernet->type = be16(ETH_P_IP);
	write_ipv4(outer, IPPROTO_IPIP, ipv4_of(way->source), ipv4_of(real->address), packet->length + sizeof(*outer),
		   tos, id);
	return send(ctx, ethernet, came.destination, real, way);
}
#endif
