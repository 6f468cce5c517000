/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Who answers for a virtual address. A fresh lease lets the kernel do it, a stale one drops the question.
 *
 * Another host that says the address is at its own MAC ends our lease at once: it took over because our control plane is
 * dead. A living one that means to stay hears it as well, and renews the lease.
 */
struct arp {			/* RFC 826, for IPv4 over Ethernet */
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u16 sender_mac[3];
	__be16 sender[2];
	__u8 target_mac[6];
	__be32 target;
};

#define ARP_ETHERNET 1
#define ARP_REQUEST 1

/* A QUESTION is an ARP request for one of the virtual addresses. A rival's claim is none: nobody answers it. */
static __always_inline enum outcome parse_arp(const void *at, const void *end)
{
	const struct arp *arp = at;

	if ((const void *)(arp + 1) > end || arp->hardware != be16(ARP_ETHERNET) || arp->protocol != be16(ETH_P_IP))
		return FOREIGN;
	if (protocols_of((__u32)arp->sender[1] << 16 | arp->sender[0]) && !is_our_mac(arp->sender_mac)) {
		end_lease();
		return FOREIGN;
	}
	return arp->operation == be16(ARP_REQUEST) && protocols_of(arp->target) ? QUESTION : FOREIGN;
}

static __always_inline enum outcome answer_arp(__u64 now_ns)
{
	return lease_is_fresh(now_ns) ? OUTCOME_passed : OUTCOME_arp_no_lease;
}
