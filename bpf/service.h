/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Which service is a packet for? Compiled compares, generated from the configuration: clang makes a binary search of
 * each switch, and a foreign packet costs a few jumps and no look-up.
 *
 *   VIRTUALS(_)    _(address, protocols)               protocols: bits PROTOCOL_TCP, PROTOCOL_UDP
 *   SERVICES(_)    _(index, address, port, protocol)   numbers in host order; a group has several rows
 *
 * An IPv6 virtual address has a number, in this program only: above its protocols, which are the two lowest bits.
 *
 *   VIRTUALS6(_)   _(low, number)                      number: an expression of the address's `high` half
 *   SERVICES6(_)   _(index, number, port, protocol)
 */
#define PROTOCOL_TCP 1
#define PROTOCOL_UDP 2
#define NO_SERVICE (-1)

/* Which protocols are balanced at this address, as bits; 0: it is nobody's virtual address. */
static __always_inline __u32 protocols_of(__be32 address)
{
	switch (address) {
#define CASE(address, protocols) \
	case be32(address): \
		return protocols;
	VIRTUALS(CASE)
#undef CASE
	default:
		return 0;
	}
}

/* The number of an IPv6 address; 0: it is nobody's virtual address. */
static __always_inline __u32 number_of(const __be64 *address)
{
	__be64 high = address[0];

	switch (address[1]) {
#define CASE(low, number) \
	case be64(low): \
		return number;
	VIRTUALS6(CASE)
#undef CASE
	default:
		return 0;
	}
}

static __always_inline bool is_among(__u32 protocols, __u8 protocol)
{
	return (protocol == IPPROTO_TCP && protocols & PROTOCOL_TCP) ||
	       (protocol == IPPROTO_UDP && protocols & PROTOCOL_UDP);
}

static __always_inline bool is_served(__be32 address, __u8 protocol)
{
	return is_among(protocols_of(address), protocol);
}

/* Is it to be looked at: is it served, or ICMP to a virtual address? */
static __always_inline bool is_ours(__be32 address, __u8 protocol)
{
	return is_served(address, protocol) || (protocol == IPPROTO_ICMP && protocols_of(address));
}

#define SERVICE_KEY(address, port, protocol) ((__u64)(address) << 32 | (__u64)(port) << 16 | (protocol))

static __always_inline int service_at(__be32 address, __be16 port, __u8 protocol)
{
	switch (SERVICE_KEY(address, port, protocol)) {
#define CASE(index, address, port, protocol) \
	case SERVICE_KEY(be32(address), be16(port), protocol): \
		return index;
	SERVICES(CASE)
#undef CASE
	default:
		return NO_SERVICE;
	}
}

static __always_inline int service6_at(__u32 number, __be16 port, __u8 protocol)
{
	switch (SERVICE_KEY(number, port, protocol)) {
#define CASE(index, number, port, protocol) \
	case SERVICE_KEY(number, be16(port), protocol): \
		return index;
	SERVICES6(CASE)
#undef CASE
	default:
		return NO_SERVICE;
	}
}
