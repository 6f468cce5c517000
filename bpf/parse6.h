/* SPDX-License-Identifier: GPL-2.0-only
 *
 * From a frame to a packet of an IPv6 virtual, as parse.h does it for IPv4. Only once all extension headers are read it is
 * known whether the packet is to be balanced; what contradicts itself before is dropped whatever it is.
 */
static __always_inline enum outcome parse_ipv6(struct packet *packet, const void *at, const void *end)
{
	const struct ipv6 *ip = at;
	__u8 protocol;
	enum outcome outcome;
	__u32 number, room;

	if ((const void *)(ip + 1) > end)
		return FOREIGN;
	number = number_of(ip->destination);
	if (!number || !is_sent_to_us(packet->ethernet->destination))
		return FOREIGN;

	room = host16(ip->payload_length);
	protocol = ip->next_header;
	if ((*(const __u8 *)ip & 0xf0) != 0x60 || sizeof(*ip) + room > bytes_seen(at, end) + BEYOND(packet))
		return OUTCOME_drop_malformed;
	packet->length = sizeof(*ip) + room;
	packet->client6[0] = ip->source[0];
	packet->client6[1] = ip->source[1];
	packet->virtual6[0] = ip->destination[0];
	packet->virtual6[1] = ip->destination[1];
	packet->number = number;
	at += sizeof(*ip);
	outcome = skip_extensions(packet, &at, end, &room, &protocol);
	if (outcome != OURS)
		return outcome;
	if (protocol == IPPROTO_ICMPV6)
		return packet->is_first ? FOR_KERNEL : parse_icmpv6(packet, at, end, room);
	if (!is_among(number, protocol))
		return FOREIGN;
	packet->protocol = protocol;
	if (protocol == IPPROTO_TCP)
		return parse_tcp(packet, at, end, room);
	return parse_udp(packet, at, end, room);
}
