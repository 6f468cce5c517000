/* SPDX-License-Identifier: GPL-2.0-only
 *
 * `ipip`: the packet as it is, inside another one from this director to the real (RFC 2003, RFC 2473), for reals behind
 * routers. The outer packet is of the real's family, the inner one of the virtual's; all four pairs go.
 *
 * The outer header has the inner's DSCP and ECN (RFC 6040, normal mode). IPv4's has its identification, if it has one, and
 * always DF, also for a packet that came without: nobody fragments on the way, and nobody has to put together what an
 * attacker made up. IPv6's has its flow label, by which routers that have several ways choose one (RFC 6438).
 *
 * The frame leaves without VLAN tags, whatever it came with: the kernel's route is by the interface itself.
 *
 * So what is too big must be said at once, from the virtual address and whether it came with DF or not: the sender then
 * sends smaller segments, or fragments by itself.
 *
 * Generated: TUNNELS4, TUNNELS6 (has any real one, of IPv4, of IPv6?), TUNNELS (either).
 */
#if TUNNELS
/* Is it an IPv4 address, mapped? */
static __always_inline bool is_ipv4_mapped(const __be64 *address)
{
	return !address[0] && ((const __be32 *)address)[2] == be32(0xffff);
}

static __always_inline __be32 ipv4_of(const __be64 *address)
{
	return ((const __be32 *)address)[3];
}

/* What the outer header has of the inner one. */
struct inner {
	__u8 protocol;
	__u8 tos;
	__be16 id;		/* 0: IPv6's has none */
	__be32 first;		/* the first word of an IPv6 header */
};

static __always_inline bool look_inside(const struct xdp_md *ctx, const struct packet *packet, struct inner *inner)
{
	const struct iphdr *ip = ip_of(ctx, packet);

	if (!ip)
		return false;
	if (is_ipv6(packet)) {
		inner->protocol = IPPROTO_IPV6;
		inner->first = *(const __be32 *)ip;
		inner->tos = host32(inner->first) >> 20;
	} else {
		inner->protocol = IPPROTO_IPIP;
		inner->tos = ip->tos;
		inner->id = ip->id;
		inner->first = VERSION6 | be32((__u32)ip->tos << 20);
	}
	return true;
}

/* Make room for an outer header of so many bytes behind Ethernet's, in the place of tags. NULL: there is none. */
static __always_inline struct ethernet *make_room(struct xdp_md *ctx, const struct packet *packet, int bytes)
{
	struct ethernet *ethernet;

	if (bpf_xdp_adjust_head(ctx, link_of(packet) - (int)sizeof(*ethernet) - bytes))
		return NULL;
	ethernet = frame_of(ctx);
	return (void *)(ethernet + 1) + bytes > end_of(ctx) ? NULL : ethernet;
}

#if TUNNELS4
static __always_inline enum outcome wrap_in_ipv4(struct xdp_md *ctx, struct packet *packet, const struct real *real,
						 const struct way *way)
{
	const int bytes = sizeof(struct iphdr);
	struct ethernet came = *packet->ethernet, *ethernet;
	struct inner inner = {};

	if (is_too_big(packet, way, bytes))
		return refuse_too_big(ctx, packet, way, bytes);
	if (!look_inside(ctx, packet, &inner))
		return OUTCOME_drop_malformed;
	ethernet = make_room(ctx, packet, bytes);
	if (!ethernet)
		return OUTCOME_drop_no_headroom;
	ethernet->type = be16(ETH_P_IP);
	write_ipv4((void *)(ethernet + 1), inner.protocol, ipv4_of(way->source), ipv4_of(real->address),
		   packet->length + bytes, inner.tos, inner.id);
	return send(ctx, ethernet, came.destination, real, way);
}
#endif

#if TUNNELS6
static __always_inline enum outcome wrap_in_ipv6(struct xdp_md *ctx, struct packet *packet, const struct real *real,
						 const struct way *way)
{
	const int bytes = sizeof(struct ipv6);
	struct ethernet came = *packet->ethernet, *ethernet;
	struct inner inner = {};

	if (is_too_big(packet, way, bytes))
		return refuse_too_big(ctx, packet, way, bytes);
	if (!look_inside(ctx, packet, &inner))
		return OUTCOME_drop_malformed;
	ethernet = make_room(ctx, packet, bytes);
	if (!ethernet)
		return OUTCOME_drop_no_headroom;
	ethernet->type = be16(ETH_P_IPV6);
	write_ipv6((void *)(ethernet + 1), inner.first, inner.protocol, way->source, real->address, packet->length);
	return send(ctx, ethernet, came.destination, real, way);
}
#endif

static __always_inline enum outcome forward_ipip(struct xdp_md *ctx, struct packet *packet, const struct real *real,
						 const struct way *way)
{
#if TUNNELS6
	if (!TUNNELS4 || !is_ipv4_mapped(real->address))
		return wrap_in_ipv6(ctx, packet, real, way);
#endif
#if TUNNELS4
	return wrap_in_ipv4(ctx, packet, real, way);
#endif
	return OUTCOME_drop_no_real;
}
#endif
