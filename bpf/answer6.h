/* SPDX-License-Identifier: GPL-2.0-only
 *
 * ICMPv6 errors of the director's own, as answer.h has those of IPv4: in the place of the packet they are about, from the
 * address that it was sent to. They quote as much of it as the 1280 bytes that every link carries leave room for (RFC 4443
 * section 2.4 (c)).
 *
 * Those whom RFC 4443 section 2.4 (e) names get none: a source that is not one host, errors. Nor do the later fragments of
 * a datagram, as of IPv4: the first one's sender has been told.
 */
#define LEAST_MTU 1280
#define ICMPV6_PORT 4		/* code of "unreachable" */

struct icmpv6_error {
	__u8 type;
	__u8 code;
	__u16 check;
	__be32 mtu;		/* of "packet too big"; 0 in others */
};

#define HOPS 64
#define VERSION6 be32(0x60000000)	/* and no traffic class, no flow label */

/* first: version, traffic class and flow label. length: of what follows. */
static __always_inline void write_ipv6(struct ipv6 *ip, __be32 first, __u8 protocol, const __be64 *source,
				       const __be64 *destination, __u32 length)
{
	ip->version = first;
	ip->payload_length = be16(length);
	ip->next_header = protocol;
	ip->hop_limit = HOPS;
	ip->source[0] = source[0];
	ip->source[1] = source[1];
	ip->destination[0] = destination[0];
	ip->destination[1] = destination[1];
}

#if IPV6_SERVICES
#define MESSAGE6_BYTES (LEAST_MTU - sizeof(struct ipv6))
#define QUOTED6_BYTES (MESSAGE6_BYTES - sizeof(struct icmpv6_error))
#define SUMMED_MOST 512		/* bytes that the kernel sums at once */

/* Not unspecified, loopback, multicast. */
static __always_inline bool is_one_host6(const __be64 *address)
{
	return (address[0] || host64(address[1]) > 1) && *(const __u8 *)address != 0xff;
}

/* The sums of RFC 1071, not yet folded, of what is behind an IPv6 header and of its pseudo-header (RFC 8200 section 8.1), of
 * which only addresses and length lie in front of it. */
static __always_inline __u32 sum_pseudo6(const struct ipv6 *ip)
{
	return ip->payload_length + be16(IPPROTO_ICMPV6) +
	       sum_header(ip->source, sizeof(ip->source) + sizeof(ip->destination));
}

/* Of MESSAGE6_BYTES. */
static __always_inline __u32 sum_longest6(void *message, __u32 sum)
{
	int at;

#pragma unroll
	for (at = 0; at + SUMMED_MOST <= MESSAGE6_BYTES; at += SUMMED_MOST)
		sum = bpf_csum_diff(NULL, 0, message + at, SUMMED_MOST, sum);
	return bpf_csum_diff(NULL, 0, message + at, MESSAGE6_BYTES % SUMMED_MOST, sum);
}

/* Of what goes up to the end of the frame. By words of 32 bits, whose halves are added up in the end. */
static __always_inline __u32 sum_to_end6(const void *message, const void *end, __u32 pseudo)
{
	const __u32 *from = message;
	__u64 sum = pseudo;

	_Pragma("nounroll")
	for (int n = 0; n < MESSAGE6_BYTES / 4 && (const void *)(from + 1) <= end; n++) {
		sum += *from++;
		asm volatile("" : "+r"(from));	/* as in answer.h */
	}
	if ((const void *)from + 2 <= end) {
		sum += *(const __u16 *)from;
		from = (const void *)from + 2;
	}
	if ((const void *)from + 1 <= end)
		sum += *(const __u8 *)from;
	return (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
}

/* Turn the packet into an answer that quotes so much of it. It lacks its checksum. NULL: nobody is to be told. */
static __always_inline struct icmpv6_error *begin_answer6(struct xdp_md *ctx, const struct packet *packet, __u8 type,
							  __u8 code, __u32 mtu, __u32 quoted)
{
	struct icmpv6_error *icmp;
	struct ipv6 *ip;

	if (packet->is_error || is_later(packet) || !is_one_host6(packet->client6) ||
	    !within_limit(read_clock() >> TICK_SHIFT))
		return NULL;
	ip = turn_around(ctx, packet, sizeof(*ip) + sizeof(*icmp), quoted);
	asm volatile("" : "+r"(ip));	/* else clang compares another sum than the one that is used */
	icmp = (void *)(ip + 1);
	if (!ip || (void *)(icmp + 1) > end_of(ctx))
		return NULL;
	write_ipv6(ip, VERSION6, IPPROTO_ICMPV6, packet->virtual6, packet->client6, sizeof(*icmp) + quoted);
	icmp->type = type;
	icmp->code = code;
	icmp->check = 0;
	icmp->mtu = be32(mtu);
	return icmp;
}

/* About a packet of more than LEAST_MTU bytes: no sender could make another one smaller for being told (RFC 8200 section
 * 5). So all of these have one size. */
static __always_inline bool answer_too_big6(struct xdp_md *ctx, const struct packet *packet, __u32 mtu)
{
	struct icmpv6_error *icmp = begin_answer6(ctx, packet, ICMPV6_TOO_BIG, 0, mtu, QUOTED6_BYTES);

	if (!icmp || (void *)icmp + MESSAGE6_BYTES > end_of(ctx))
		return false;
	icmp->check = checksum(sum_longest6(icmp, sum_pseudo6((struct ipv6 *)icmp - 1)));
	return true;
}

static __always_inline bool answer_unreachable6(struct xdp_md *ctx, const struct packet *packet)
{
	__u32 quoted = packet->length < QUOTED6_BYTES ? packet->length : QUOTED6_BYTES;
	struct icmpv6_error *icmp = begin_answer6(ctx, packet, ICMPV6_UNREACHABLE, ICMPV6_PORT, 0, quoted);

	if (!icmp)
		return false;
	icmp->check = checksum(sum_to_end6(icmp, end_of(ctx), sum_pseudo6((struct ipv6 *)icmp - 1)));
	return true;
}
#endif
