/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Who answers for an IPv6 virtual address: neighbour discovery (RFC 4861), by the rules of arp.h. Whoever sends from a
 * virtual address, or advertises one, claims it for the MAC that his frame comes from.
 */
struct nd {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 flags;
	__be64 target[2];
};

#define ND_SOLICITATION 135
#define ND_ADVERTISEMENT 136
#define ND_HOP_LIMIT 255		/* no router let it through: sections 7.1.1 and 7.1.2 */

/* A SOLICITATION is one for a virtual address. What is no neighbour discovery is OURS: somebody else's to say. Behind
 * extension headers there is none that anybody sends. */
static __always_inline enum outcome parse_nd(const struct packet *packet, const void *at, const void *end)
{
	const struct ipv6 *ip = at;
	const struct nd *nd = (const void *)(ip + 1);
	bool advertises;

	if ((const void *)(ip + 1) > end || ip->next_header != IPPROTO_ICMPV6 || (const void *)(nd + 1) > end ||
	    (nd->type != ND_SOLICITATION && nd->type != ND_ADVERTISEMENT))
		return OURS;
	if (ip->hop_limit != ND_HOP_LIMIT || nd->code)
		return FOREIGN;
	advertises = nd->type == ND_ADVERTISEMENT;
	if (number_of(advertises ? nd->target : ip->source) && !is_our_mac(packet->ethernet->source)) {
		end_lease();
		return FOREIGN;
	}
	return !advertises && number_of(nd->target) ? SOLICITATION : FOREIGN;
}

static __always_inline enum outcome answer_nd(__u64 now_ns)
{
	return lease_is_fresh(now_ns) ? OUTCOME_passed : OUTCOME_nd_no_lease;
}
