/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The lease. The control plane renews it as long as it is alive and means to own the virtual addresses; once it has run
 * out, this host must not claim them any more: its kernel would still answer for them. A fresh lease lets the kernel
 * answer, a stale one drops the question. Packets of known connections are forwarded either way.
 */
struct arp {			/* RFC 826, for IPv4 over Ethernet */
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_mac[6];
	__be16 sender[2];
	__u8 target_mac[6];
	__be32 target;
};

#define ARP_ETHERNET 1
#define ARP_REQUEST 1

static __always_inline bool lease_is_fresh(__u64 now_ns)
{
	__u32 zero = 0;
	struct lease *held = lease.lookup(&zero);

	return held && now_ns < held->until_ns;
}

/* A QUESTION is an ARP request for one of the virtual addresses. */
static __always_inline enum outcome parse_arp(const void *at, const void *end)
{
	const struct arp *arp = at;

	if ((const void *)(arp + 1) <= end && arp->hardware == be16(ARP_ETHERNET) && arp->protocol == be16(ETH_P_IP) &&
	    arp->operation == be16(ARP_REQUEST) && protocols_of(arp->target))
		return QUESTION;
	return FOREIGN;
}

static __always_inline enum outcome answer_arp(__u64 now_ns)
{
	return lease_is_fresh(now_ns) ? OUTCOME_passed : OUTCOME_arp_no_lease;
}
