/* SPDX-License-Identifier: GPL-2.0-only
 *
 * ICMP to a virtual address. An error about a packet that a real sent from there belongs to that real: without
 * "fragmentation needed", path MTU discovery would leave its connections hanging. All else is the kernel's, an echo above
 * all, as long as this host may speak for the address. RFC 792, 1191
 */
struct icmp {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__u32 more;
};

#define ICMP_UNREACHABLE 3
#define ICMP_QUENCH 4
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12
#define QUOTED_BYTES 8		/* of the segment or datagram, at least; ports are the first four of them */

static __always_inline bool is_error(__u8 type)
{
	switch (type) {
	case ICMP_UNREACHABLE:
	case ICMP_QUENCH:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETER_PROBLEM:
		return true;
	default:
		return false;
	}
}

/* Of at most `room` bytes. An error becomes a packet of the connection it quotes, as if its client had sent it. */
static __always_inline enum outcome parse_icmp(struct packet *packet, const void *at, const void *end, __u32 room)
{
	const struct icmp *icmp = at;
	const struct iphdr *quoted = (const void *)(icmp + 1);
	const __be16 *ports;
	__u32 header;

	if (room < sizeof(*icmp) || (const void *)(icmp + 1) > end)
		return OUTCOME_drop_malformed;
	if (!is_error(icmp->type))
		return FOR_KERNEL;
	if (room < sizeof(*icmp) + sizeof(*quoted) || (const void *)(quoted + 1) > end)
		return OUTCOME_drop_malformed;
	header = quoted->ihl * 4;
	ports = (const void *)quoted + header;
	if (quoted->version != 4 || header < sizeof(*quoted) || room < sizeof(*icmp) + header + QUOTED_BYTES ||
	    (const void *)ports + QUOTED_BYTES > end)
		return OUTCOME_drop_malformed;
	if (quoted->saddr != packet->virtual || !is_served(quoted->saddr, quoted->protocol) ||
	    quoted->frag_off & be16(FRAGMENT_OFFSET))
		return FOR_KERNEL;

	packet->is_error = true;
	packet->client = quoted->daddr;
	packet->protocol = quoted->protocol;
	packet->ports = (__u32)ports[0] << 16 | ports[1];
	packet->tcp_flags = TCP_ACK;	/* like most packets of the connection, it changes nothing there */
	return OURS;
}

/* To the real of the connection that is quoted: who knows it, forwards; who does not, asks who may; else it is our own. */
static __always_inline enum outcome relate(const struct connection *known, struct packet *packet, __u64 now_ns,
					   __u32 *index)
{
	enum outcome outcome;

	if (known && !ran_out(known, now_ns >> TICK_SHIFT)) {
		*index = known->real;
		return OURS;
	}
	outcome = refer(packet, now_ns);
	return outcome == OURS ? disown(now_ns) : outcome;
}
