/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Checks that go to the virtual's address on one real's MAC, as its clients' packets do (`via = "virtual"`).
 *
 * A check is a connection, or a datagram, of this host to a probe address, one of which stands for each real of each
 * virtual. As it leaves, `ask` writes the virtual's address and the real's MAC in its place; as the answer arrives,
 * `answer` puts the probe address back, so that the socket knows it, also where the virtual's address is this host's own.
 * An ICMP error is an answer, too: what it quotes is put back as well. Two programs of traffic control, apart from the
 * packet path: what that forwards it sends from XDP, and never passes here.
 *
 * TCP and UDP over IPv4 without options and over IPv6 without extension headers, which is what this host's sockets send.
 * Anything else is left alone.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>

struct address {		/* an IPv4 address is IPv4-mapped (RFC 4291 section 2.5.5.2) */
	__be32 words[4];
};

struct probe {			/* what a probe address stands for */
	struct address virtual;
	__u8 mac[ETH_ALEN];
	__u16 unused;
};

struct asked {			/* a connection under way, as its answers show it */
	struct address virtual;
	__be16 virtual_port;
	__be16 own_port;
	__u32 protocol;
};

BPF_HASH(probes, struct address, struct probe, PROBES_MAX);
BPF_TABLE("lru_hash", struct asked, struct address, asked, ASKED_MAX);

#define offsetof(type, member) __builtin_offsetof(type, member)
#define be16(x) ((__be16)__builtin_bswap16(x))
#define be32(x) ((__be32)__builtin_bswap32(x))
#define TCP_FLAGS 13
#define SYN 0x02

/* The headers of ICMP want more of the C library than there is. */
#define ICMP_HEADER 8
#define ICMP_CHECKSUM 2
#define ICMP_UNREACHABLE 3
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12
#define ICMPV6_ERRORS 4		/* the types 1 to this */

struct seen {			/* a packet, or what an ICMP error quotes of one */
	struct address source;
	struct address destination;
	__be16 ports[2];
	__u32 protocol;
	__u32 ip, inner;	/* where its headers begin */
	bool ipv6;
};

static __always_inline bool is_same(const struct address *one, const struct address *other)
{
	return one->words[0] == other->words[0] && one->words[1] == other->words[1] &&
	       one->words[2] == other->words[2] && one->words[3] == other->words[3];
}

static __always_inline void map_ipv4(struct address *address, __be32 word)
{
	address->words[0] = 0;
	address->words[1] = 0;
	address->words[2] = be32(0xffff);
	address->words[3] = word;
}

/* The IP header at this offset. False where it is not one of those that are looked at. */
static __always_inline bool read_ip(struct __sk_buff *skb, struct seen *seen, __u32 at, bool ipv6)
{
	struct ipv6hdr ip6;
	struct iphdr ip;

	seen->ip = at;
	seen->ipv6 = ipv6;
	if (ipv6) {
		if (bpf_skb_load_bytes(skb, at, &ip6, sizeof(ip6)) || ip6.version != 6)
			return false;
		__builtin_memcpy(&seen->source, &ip6.saddr, sizeof(seen->source));
		__builtin_memcpy(&seen->destination, &ip6.daddr, sizeof(seen->destination));
		seen->protocol = ip6.nexthdr;
		seen->inner = at + sizeof(ip6);
		return true;
	}
	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl != 5 || (ip.frag_off & be16(0x3fff)))
		return false;
	map_ipv4(&seen->source, ip.saddr);
	map_ipv4(&seen->destination, ip.daddr);
	seen->protocol = ip.protocol;
	seen->inner = at + sizeof(ip);
	return true;
}

static __always_inline bool read_ports(struct __sk_buff *skb, struct seen *seen)
{
	if (seen->protocol != IPPROTO_TCP && seen->protocol != IPPROTO_UDP)
		return false;
	return !bpf_skb_load_bytes(skb, seen->inner, seen->ports, sizeof(seen->ports));
}

static __always_inline bool read_packet(struct __sk_buff *skb, struct seen *seen)
{
	if (skb->protocol != be16(ETH_P_IP) && skb->protocol != be16(ETH_P_IPV6))
		return false;
	return read_ip(skb, seen, ETH_HLEN, skb->protocol == be16(ETH_P_IPV6));
}

/* Does this host begin something with it? A datagram may be the first of many. */
static __always_inline bool begins(struct __sk_buff *skb, const struct seen *seen)
{
	__u8 flags;

	if (seen->protocol == IPPROTO_UDP)
		return true;
	return !bpf_skb_load_bytes(skb, seen->inner + TCP_FLAGS, &flags, sizeof(flags)) && (flags & SYN);
}

static __always_inline __u32 checksum_of(const struct seen *seen)
{
	return seen->inner + (seen->protocol == IPPROTO_TCP ? offsetof(struct tcphdr, check) :
			      seen->protocol == IPPROTO_UDP ? offsetof(struct udphdr, check) :
							      ICMP_CHECKSUM);
}

/* Write another address over one of the packet's, at this offset of its IP header, and mend its IPv4 header. */
static __always_inline long write_address(struct __sk_buff *skb, const struct seen *seen, __u32 offset,
					  const struct address *from, const struct address *to)
{
	if (seen->ipv6)
		return bpf_skb_store_bytes(skb, seen->ip + offset, to, sizeof(*to), 0);
	return bpf_l3_csum_replace(skb, seen->ip + offsetof(struct iphdr, check), from->words[3], to->words[3], 4) ||
	       bpf_skb_store_bytes(skb, seen->ip + offset, &to->words[3], 4, 0);
}

/* Mend the checksum of a packet in which an address changed. flags: for IPv6, whose header has no checksum that would
 * take back what the change did to the whole frame's. BPF_F_PSEUDO_HDR is for a checksum that the device will finish
 * (leaving); without it one that the device has taken of a frame (arriving) stays as it is, and right. */
static __always_inline long mend(struct __sk_buff *skb, const struct seen *seen, struct address *from,
				 struct address *to, __u64 flags)
{
	if (seen->protocol == IPPROTO_UDP)
		flags |= BPF_F_MARK_MANGLED_0;
	if (seen->ipv6)
		return bpf_l4_csum_replace(skb, checksum_of(seen), 0,
					   bpf_csum_diff(from->words, sizeof(*from), to->words, sizeof(*to), 0), flags);
	return bpf_l4_csum_replace(skb, checksum_of(seen), from->words[3], to->words[3], flags | BPF_F_PSEUDO_HDR | 4);
}

#define SOURCE(seen) ((seen)->ipv6 ? offsetof(struct ipv6hdr, saddr) : offsetof(struct iphdr, saddr))
#define DESTINATION(seen) ((seen)->ipv6 ? offsetof(struct ipv6hdr, daddr) : offsetof(struct iphdr, daddr))

/* Leaving: to a probe address, to its real under the virtual's. */
int ask(struct __sk_buff *skb)
{
	struct asked connection = {};
	struct probe *found, probe;
	struct seen seen = {};

	if (!read_packet(skb, &seen) || !read_ports(skb, &seen))
		return TC_ACT_UNSPEC;
	connection.virtual = seen.destination;
	connection.own_port = seen.ports[0];
	connection.virtual_port = seen.ports[1];
	connection.protocol = seen.protocol;
	found = probes.lookup(&seen.destination);
	if (!found) {
		/* this host itself asks an address; was it a check that had this port last? */
		if (begins(skb, &seen))
			asked.delete(&connection);
		return TC_ACT_UNSPEC;
	}
	probe = *found;
	connection.virtual = probe.virtual;
	asked.update(&connection, &seen.destination);
	if (bpf_skb_store_bytes(skb, 0, probe.mac, ETH_ALEN, 0) ||
	    mend(skb, &seen, &seen.destination, &probe.virtual, BPF_F_PSEUDO_HDR) ||
	    write_address(skb, &seen, DESTINATION(&seen), &seen.destination, &probe.virtual))
		return TC_ACT_SHOT;
	return TC_ACT_UNSPEC;
}

static __always_inline bool is_error(struct __sk_buff *skb, const struct seen *seen)
{
	__u8 type;

	if (seen->protocol != (seen->ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP) ||
	    bpf_skb_load_bytes(skb, seen->inner, &type, sizeof(type)))
		return false;
	if (seen->ipv6)
		return type >= 1 && type <= ICMPV6_ERRORS;
	return type == ICMP_UNREACHABLE || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER_PROBLEM;
}

/* An error about something that was asked: it quotes a packet to the virtual's address, and may come from there. Within
 * ICMP an IPv4 header and its checksum change together, so that ICMP's own sum stays; ICMPv6's covers all addresses. */
static __always_inline int answer_error(struct __sk_buff *skb, struct seen *error)
{
	struct asked connection = {};
	struct address *found, address;
	struct seen quoted = {};
	bool from_virtual;

	if (!read_ip(skb, &quoted, error->inner + ICMP_HEADER, error->ipv6) || !read_ports(skb, &quoted))
		return TC_ACT_UNSPEC;
	connection.virtual = quoted.destination;
	connection.own_port = quoted.ports[0];
	connection.virtual_port = quoted.ports[1];
	connection.protocol = quoted.protocol;
	found = asked.lookup(&connection);
	if (!found)
		return TC_ACT_UNSPEC;
	address = *found;
	from_virtual = is_same(&error->source, &quoted.destination);
	if (write_address(skb, &quoted, DESTINATION(&quoted), &quoted.destination, &address) ||
	    (error->ipv6 && mend(skb, error, &quoted.destination, &address, 0)))
		return TC_ACT_SHOT;
	if (from_virtual && (write_address(skb, error, SOURCE(error), &error->source, &address) ||
			     (error->ipv6 && mend(skb, error, &error->source, &address, 0))))
		return TC_ACT_SHOT;
	return TC_ACT_UNSPEC;
}

/* Arriving: from a virtual's address, to the probe address that was asked. */
int answer(struct __sk_buff *skb)
{
	struct asked connection = {};
	struct address *found, address;
	struct seen seen = {};

	if (!read_packet(skb, &seen))
		return TC_ACT_UNSPEC;
	if (is_error(skb, &seen))
		return answer_error(skb, &seen);
	if (!read_ports(skb, &seen))
		return TC_ACT_UNSPEC;
	connection.virtual = seen.source;
	connection.virtual_port = seen.ports[0];
	connection.own_port = seen.ports[1];
	connection.protocol = seen.protocol;
	found = asked.lookup(&connection);
	if (!found)
		return TC_ACT_UNSPEC;
	address = *found;
	if (mend(skb, &seen, &seen.source, &address, 0) ||
	    write_address(skb, &seen, SOURCE(&seen), &seen.source, &address))
		return TC_ACT_SHOT;
	return TC_ACT_UNSPEC;
}
