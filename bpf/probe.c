/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Checks that go to the virtual's address on one real's MAC, as its clients' packets do (`via = "virtual"`).
 *
 * A check is a connection of this host to a probe address, one of which stands for each real of each virtual. As it
 * leaves, `ask` writes the virtual's address and the real's MAC in its place; as the answer arrives, `answer` puts the
 * probe address back, so that the socket knows it, also where the virtual's address is this host's own. Two programs of
 * traffic control, apart from the packet path: what that forwards it sends from XDP, and never passes here.
 *
 * IPv4 and TCP without IP options, which is what this host's sockets send. Anything else is left alone.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>

struct probe {			/* what a probe address stands for */
	__be32 virtual;
	__u8 mac[ETH_ALEN];
	__u16 unused;
};

struct asked {			/* a connection under way, as its answers show it */
	__be32 virtual;
	__be16 virtual_port;
	__be16 own_port;
};

BPF_HASH(probes, __be32, struct probe, PROBES_MAX);
BPF_TABLE("lru_hash", struct asked, __be32, asked, ASKED_MAX);

struct headers {
	struct ethhdr ethernet;
	struct iphdr ip;
	struct tcphdr tcp;
} __attribute__((packed));

#define IP_OFFSET ETH_HLEN
#define TCP_OFFSET (ETH_HLEN + sizeof(struct iphdr))
#define offsetof(type, member) __builtin_offsetof(type, member)
#define be16(x) ((__be16)__builtin_bswap16(x))

/* The headers, where they are all there and are IPv4's and TCP's; else NULL. */
static __always_inline struct headers *headers_of(struct __sk_buff *skb)
{
	struct headers *headers = (void *)(long)skb->data;

	if ((void *)(headers + 1) > (void *)(long)skb->data_end)
		return NULL;
	if (headers->ethernet.h_proto != be16(ETH_P_IP) || headers->ip.version != 4 || headers->ip.ihl != 5)
		return NULL;
	if (headers->ip.protocol != IPPROTO_TCP || (headers->ip.frag_off & be16(0x3fff)))
		return NULL;
	return headers;
}

/* Write another address over one at this offset, and mend both checksums. */
static __always_inline int exchange(struct __sk_buff *skb, int offset, __be32 from, __be32 to)
{
	int tcp_check = TCP_OFFSET + offsetof(struct tcphdr, check);
	int ip_check = IP_OFFSET + offsetof(struct iphdr, check);

	if (bpf_l4_csum_replace(skb, tcp_check, from, to, BPF_F_PSEUDO_HDR | sizeof(to)) ||
	    bpf_l3_csum_replace(skb, ip_check, from, to, sizeof(to)) ||
	    bpf_skb_store_bytes(skb, offset, &to, sizeof(to), 0))
		return TC_ACT_SHOT;
	return TC_ACT_UNSPEC;
}

/* Leaving: to a probe address, to its real under the virtual's. */
int ask(struct __sk_buff *skb)
{
	struct headers *headers = headers_of(skb);
	struct asked connection = {};
	struct probe *found, probe;
	__be32 address;

	if (!headers)
		return TC_ACT_UNSPEC;
	address = headers->ip.daddr;
	connection.virtual = address;
	connection.virtual_port = headers->tcp.dest;
	connection.own_port = headers->tcp.source;
	found = probes.lookup(&address);
	if (!found) {
		/* this host itself asks an address; was it a check that had this port last? */
		if (headers->tcp.syn)
			asked.delete(&connection);
		return TC_ACT_UNSPEC;
	}
	probe = *found;
	connection.virtual = probe.virtual;
	asked.update(&connection, &address);
	if (bpf_skb_store_bytes(skb, 0, probe.mac, ETH_ALEN, 0))
		return TC_ACT_SHOT;
	return exchange(skb, IP_OFFSET + offsetof(struct iphdr, daddr), address, probe.virtual);
}

/* Arriving: from a virtual's address, to the probe address that was asked. */
int answer(struct __sk_buff *skb)
{
	struct headers *headers = headers_of(skb);
	struct asked connection = {};
	__be32 *address;

	if (!headers)
		return TC_ACT_UNSPEC;
	connection.virtual = headers->ip.saddr;
	connection.virtual_port = headers->tcp.source;
	connection.own_port = headers->tcp.dest;
	address = asked.lookup(&connection);
	if (!address)
		return TC_ACT_UNSPEC;
	return exchange(skb, IP_OFFSET + offsetof(struct iphdr, saddr), connection.virtual, *address);
}
