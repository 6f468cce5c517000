/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What differs between a packet of IPv4 and one of IPv6, once it is parsed: its key, which service it matches, what
 * schedulers see of its client. Its table is in conn.h, its line by heart in cache.h.
 */
union key {
	struct connection_key ipv4;
	struct connection_key6 ipv6;
	__u64 words[5];
};

/* The service of exactly this port, else the one of every port, else NO_SERVICE. */
static __always_inline int match_port(const struct packet *packet, __be16 port)
{
	if (is_ipv6(packet))
		return service6_at(packet->number, port, packet->protocol);
	return service_at(packet->virtual, port, packet->protocol);
}

static __always_inline int match_service(const struct packet *packet)
{
	int service = match_port(packet, packet->ports >> 16);

#if ANY_PORT_SERVICES
	if (service == NO_SERVICE)
		service = match_port(packet, 0);
#endif
	return service;
}

/* An address as schedulers hash it: of IPv6 the sum, without carry, of its four words, as in IPVS. */
static __always_inline __be32 folded(const __be64 *address)
{
	__u64 both = address[0] ^ address[1];

	return both ^ both >> 32;
}

static __always_inline __be32 hashed_client(const struct packet *packet)
{
	return is_ipv6(packet) ? folded(packet->client6) : packet->client;
}

static __always_inline __be32 hashed_virtual(const struct packet *packet)
{
	return is_ipv6(packet) ? folded(packet->virtual6) : packet->virtual;
}
