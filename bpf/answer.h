/* SPDX-License-Identifier: GPL-2.0-only
 *
 * ICMP errors that the director itself sends, each in the place of the packet it is about: to its sender, from the
 * address that it was sent to, out where it came in and with its tags. Quoted are the IP header and eight bytes (RFC 792), in which a
 * sender finds its ports and TCP its sequence number; so an answer is shorter than a packet that is worth forging.
 *
 * Those whom RFC 1122 section 3.2.2 names get none: a source that is not one host, errors, the later fragments of a
 * datagram. RFC 1812 section 4.3.2.8 wants a limit: on each CPU ANSWERS_A_TICK in a tick.
 *
 * To IPv6: answer6.h
 *
 * Generated: ANSWERS_A_TICK.
 */
#define ICMP_PORT 3		/* the code: "port unreachable" */
#define ICMP_TOO_BIG 4		/* code of "unreachable": "fragmentation needed and DF set" */

#define QUOTED_MOST (60 + QUOTED_BYTES)
#define DONT_FRAGMENT 0x4000
#define TOS_OF_ERRORS 0xc0	/* internetwork control; RFC 1812 section 4.3.2.5 */
#define TTL 64

struct icmp_error {
	__u8 type;
	__u8 code;
	__u16 check;
	__be16 unused;
	__be16 mtu;		/* RFC 1191; 0 in others */
};

/* Sums of RFC 1071, not yet folded: of a header whose length is known here, and of what is quoted. */
static __always_inline __u32 sum_header(const void *at, int size)
{
	const __u16 *from = at;
	__u32 sum = 0;

#pragma unroll
	for (int n = 0; n < size / 2; n++)
		sum += from[n];
	return sum;
}

static __always_inline __u32 sum_quoted(const void *at, const void *end, __u32 size)
{
	const __u16 *from = at;
	__u32 sum = 0;

#pragma unroll
	for (int n = 0; n < QUOTED_MOST / 2; n++) {
		if (2 * n >= size || (const void *)(from + 1) > end)
			break;
		sum += *from++;
		asm volatile("" : "+r"(from));	/* keeps clang 14 from counting before it compares */
	}
	return sum;
}

static __always_inline __u16 checksum(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return ~(sum + (sum >> 16));
}

/* A header without options of a packet that nobody may fragment: its identification means nothing (RFC 6864). */
static __always_inline void write_ipv4(struct iphdr *ip, __u8 protocol, __be32 source, __be32 destination,
				       __u32 length, __u8 tos, __be16 id)
{
	ip->version = 4;
	ip->ihl = 5;
	ip->tos = tos;
	ip->tot_len = be16(length);
	ip->id = id;
	ip->frag_off = be16(DONT_FRAGMENT);
	ip->ttl = TTL;
	ip->protocol = protocol;
	ip->check = 0;
	ip->saddr = source;
	ip->daddr = destination;
	ip->check = checksum(sum_header(ip, sizeof(*ip)));
}

/* One more in this tick? */
static __always_inline bool within_limit(__u32 now_t)
{
	__u32 zero = 0;
	struct answered *mine = answered.lookup(&zero);

	if (!mine)
		return false;
	if (mine->tick != now_t) {
		mine->tick = now_t;
		mine->count = 0;
	}
	if (mine->count >= ANSWERS_A_TICK)
		return false;
	mine->count++;
	return true;
}

/* Not "this network", loopback, multicast, reserved, broadcast. */
static __always_inline bool is_one_host(__be32 address)
{
	__u8 first = host32(address) >> 24;

	return first != 0 && first != 127 && first < 224;
}

/* What is between the MACs and the IP header: an EtherType, and two halfwords more for each tag. */
#define TYPES_MOST (1 + 2 * TAGS_MAX)

/* Send the frame back where it came from: `added` bytes behind its tags, then as many of the packet as are quoted.
 * Returns where they begin, or NULL when there is no room; then the packet may be spoilt. */
static __always_inline void *turn_around(struct xdp_md *ctx, const struct packet *packet, int added, __u32 quoted)
{
	struct ethernet came = *packet->ethernet, *at;
	const __be16 *types = &packet->ethernet->type;
	__u32 link = packet->link & 31;
	__be16 saved[TYPES_MOST] = {};
	const void *end = end_of(ctx);

#pragma unroll
	for (int n = 0; n < TYPES_MOST && sizeof(came) + 2 * n <= link && (const void *)(types + n + 1) <= end; n++)
		saved[n] = types[n];
	if (bpf_xdp_adjust_head(ctx, -added))
		return NULL;
	at = frame_of(ctx);
	end = end_of(ctx);
	if (bpf_xdp_adjust_tail(ctx, (int)(link + added + quoted) - (int)(bytes_seen(at, end) + BEYOND(packet))))
		return NULL;

	at = frame_of(ctx);
	end = end_of(ctx);
	if ((void *)at + sizeof(*at) + sizeof(saved) > end)
		return NULL;
	__builtin_memcpy(at->destination, came.source, sizeof(at->destination));
	write_source(at->source, came.destination);
#pragma unroll
	for (int n = 0; n < TYPES_MOST; n++)
		if (sizeof(*at) + 2 * n <= link)
			(&at->type)[n] = saved[n];
	return (void *)at + link_of(packet);
}

/* Turn the packet into an answer about it. False: nobody is to be told, and the packet may be spoilt. */
static __always_inline bool answer(struct xdp_md *ctx, const struct packet *packet, __u8 type, __u8 code, __u16 mtu)
{
	const struct iphdr *about = ip_of(ctx, packet);
	const int added = sizeof(struct iphdr) + sizeof(struct icmp_error);
	struct icmp_error *icmp;
	struct iphdr *ip;
	const void *end;
	__u32 quoted;

	if (!about || packet->is_error || is_later(packet) || !is_one_host(packet->client) ||
	    !within_limit(read_clock() >> TICK_SHIFT))
		return false;
	quoted = about->ihl * 4 + QUOTED_BYTES;
	ip = turn_around(ctx, packet, added, quoted);
	end = end_of(ctx);
	icmp = (void *)(ip + 1);
	if (!ip || (void *)(icmp + 1) > end)
		return false;
	write_ipv4(ip, IPPROTO_ICMP, packet->virtual, packet->client, added + quoted, TOS_OF_ERRORS, 0);
	icmp->type = type;
	icmp->code = code;
	icmp->check = 0;
	icmp->unused = 0;
	icmp->mtu = be16(mtu);
	icmp->check = checksum(sum_header(icmp, sizeof(*icmp)) + sum_quoted(icmp + 1, end, quoted));
	return true;
}
