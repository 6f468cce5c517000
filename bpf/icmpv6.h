/* SPDX-License-Identifier: GPL-2.0-only
 *
 * ICMPv6 to a virtual address, by the rules of icmp.h: an error belongs to the real of the connection that it quotes, all
 * else is the kernel's. Neighbour discovery has gone to nd.h before. RFC 4443, 8201
 */
#define ICMPV6_UNREACHABLE 1
#define ICMPV6_TOO_BIG 2
#define ICMPV6_TIME_EXCEEDED 3
#define ICMPV6_PARAMETER_PROBLEM 4

/* Of at most `room` bytes. Of the extension headers only a fragment's is quoted of what reals send. */
static __always_inline enum outcome parse_icmpv6(struct packet *packet, const void *at, const void *end, __u32 room)
{
	const struct icmp *icmp = at;
	const struct ipv6 *quoted = (const void *)(icmp + 1);
	const struct extension *extension = (const void *)(quoted + 1);
	__u32 header = sizeof(*icmp) + sizeof(*quoted);
	const __be16 *ports = (const void *)extension;
	__u8 protocol;

	if (room < sizeof(*icmp) || (const void *)(icmp + 1) > end)
		return OUTCOME_drop_malformed;
	if (icmp->type < ICMPV6_UNREACHABLE || icmp->type > ICMPV6_PARAMETER_PROBLEM)
		return FOR_KERNEL;
	if (room < header + QUOTED_BYTES || (const void *)ports + QUOTED_BYTES > end ||
	    (*(const __u8 *)quoted & 0xf0) != 0x60)
		return OUTCOME_drop_malformed;
	protocol = quoted->next_header;
	if (protocol == IPPROTO_FRAGMENT) {
		if (extension->fragment & be16(FRAGMENT6_OFFSET))
			return FOR_KERNEL;
		protocol = extension->next_header;
		ports = (const void *)extension + 8;
		header += 8;
		if (room < header + QUOTED_BYTES || (const void *)ports + QUOTED_BYTES > end)
			return OUTCOME_drop_malformed;
	}
	if (quoted->source[0] != packet->virtual6[0] || quoted->source[1] != packet->virtual6[1] ||
	    !is_among(packet->number, protocol))
		return FOR_KERNEL;

	packet->is_error = true;
	packet->client6[0] = quoted->destination[0];
	packet->client6[1] = quoted->destination[1];
	packet->protocol = protocol;
	packet->ports = (__u32)ports[0] << 16 | ports[1];
	packet->tcp_flags = TCP_ACK;	/* as in icmp.h */
	return OURS;
}
