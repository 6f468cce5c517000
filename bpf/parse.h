/* SPDX-License-Identifier: GPL-2.0-only
 *
 * From a frame to a packet of a virtual. What is not a virtual's, or not sent to this host, is FOREIGN, and found out
 * as early as can be. IPv6: parse6.h
 */

/* Ports and flags of a segment of at most `room` bytes. RFC 9293 section 3.1 */
static __always_inline enum outcome parse_tcp(struct packet *packet, const void *at, const void *end, __u32 room)
{
	const struct tcphdr *tcp = at;
	__u32 header;

	if (room < sizeof(*tcp) || (const void *)(tcp + 1) > end)
		return OUTCOME_drop_malformed;
	header = (((const __u8 *)tcp)[12] >> 4) * 4;
	if (header < sizeof(*tcp) || header > room)
		return OUTCOME_drop_malformed;
	packet->ports = *(const __u32 *)tcp;
	packet->tcp_flags = ((const __u8 *)tcp)[13];
	return OURS;
}

/* Ports of a datagram of at most `room` bytes, or of which so many are in the first fragment. RFC 768 */
static __always_inline enum outcome parse_udp(struct packet *packet, const void *at, const void *end, __u32 room)
{
	const struct udphdr *udp = at;
	__u32 length;

	if (room < sizeof(*udp) || (const void *)(udp + 1) > end)
		return OUTCOME_drop_malformed;
	length = host16(udp->len);
	if (length < sizeof(*udp) || (length > room && !packet->is_first))
		return OUTCOME_drop_malformed;
	packet->ports = *(const __u32 *)udp;
	return OURS;
}

static __always_inline enum outcome parse_ipv4(struct packet *packet, const void *at, const void *end)
{
	const struct iphdr *ip = at;
	__u32 header, length;

	if ((const void *)(ip + 1) > end)
		return FOREIGN;		/* too short to say whose it is */
	if (!is_ours(ip->daddr, ip->protocol) || !is_sent_to_us(packet->ethernet->destination))
		return FOREIGN;

	header = ip->ihl * 4;
	length = host16(ip->tot_len);
	if (ip->version != 4 || header < sizeof(*ip) || length < header || length > bytes_seen(at, end) + BEYOND(packet))
		return OUTCOME_drop_malformed;

	packet->length = length;
	packet->client = ip->saddr;
	packet->virtual = ip->daddr;
	packet->protocol = ip->protocol;
	if (ip->frag_off & be16(FRAGMENT)) {
		if (ip->protocol == IPPROTO_ICMP)
			return FOR_KERNEL;
		packet->id = be32(host16(ip->id));
		packet->cut = (host16(ip->frag_off) & FRAGMENT_OFFSET) * 8;
		if (packet->cut)
			return LATER_FRAGMENT;
		packet->cut = length - header;
		packet->is_first = true;
	}
	if (ip->protocol == IPPROTO_TCP)
		return parse_tcp(packet, at + header, end, length - header);
	if (ip->protocol == IPPROTO_ICMP)
		return parse_icmp(packet, at + header, end, length - header);
	return parse_udp(packet, at + header, end, length - header);
}
