/* SPDX-License-Identifier: GPL-2.0-only
 *
 * ICMPv6 "packet too big", as answer.h has the like of IPv4: in the place of the packet it is about, from the address that
 * it was sent to. It quotes as much of it as the 1280 bytes that every link carries leave room for (RFC 4443 section 2.4
 * (c)); what is shorter than that is never told of, since no sender could make it any smaller (RFC 8200 section 5). So all
 * answers have one size.
 *
 * Those whom RFC 4443 section 2.4 (e) names get none: a source that is not one host, errors.
 */
#define LEAST_MTU 1280

struct icmpv6_error {
	__u8 type;
	__u8 code;
	__u16 check;
	__be32 mtu;
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

/* The sum of RFC 1071, not yet folded, of what is behind an IPv6 header and of its pseudo-header (RFC 8200 section 8.1).
 * Only addresses lie in front of it: the rest of that is constant. */
static __always_inline __u32 sum_message6(void *message, const struct ipv6 *ip)
{
	__u32 sum = be16(MESSAGE6_BYTES) + be16(IPPROTO_ICMPV6);
	int at;

	sum = bpf_csum_diff(NULL, 0, (void *)ip->source, sizeof(ip->source) + sizeof(ip->destination), sum);
#pragma unroll
	for (at = 0; at + SUMMED_MOST <= MESSAGE6_BYTES; at += SUMMED_MOST)
		sum = bpf_csum_diff(NULL, 0, message + at, SUMMED_MOST, sum);
	return bpf_csum_diff(NULL, 0, message + at, MESSAGE6_BYTES % SUMMED_MOST, sum);
}

/* Turn the packet, of more than LEAST_MTU bytes, into an answer about it. False: nobody is to be told. */
static __always_inline bool answer_too_big6(struct xdp_md *ctx, const struct packet *packet, __u32 mtu)
{
	struct icmpv6_error *icmp;
	struct ipv6 *ip;

	if (packet->is_error || !is_one_host6(packet->client6) || !within_limit(read_clock() >> TICK_SHIFT))
		return false;
	ip = turn_around(ctx, packet, sizeof(*ip) + sizeof(*icmp), QUOTED6_BYTES);
	if (!ip || (void *)ip + LEAST_MTU > (void *)(long)ctx->data_end)
		return false;
	icmp = (void *)(ip + 1);
	write_ipv6(ip, VERSION6, IPPROTO_ICMPV6, packet->virtual6, packet->client6, MESSAGE6_BYTES);
	icmp->type = ICMPV6_TOO_BIG;
	icmp->code = 0;
	icmp->check = 0;
	icmp->mtu = be32(mtu);
	icmp->check = checksum(sum_message6(icmp, ip));
	return true;
}
#endif
