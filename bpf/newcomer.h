/* SPDX-License-Identifier: GPL-2.0-only
 *
 * A packet without an entry in the connection table, on its way from there to its half-open connection or, if it is the
 * first one, to the choice of its real. It goes through a map, so
 * that kernels check that choice once: their verifiers follow each path on for everything known on it (which service,
 * which protocol, what was found and what not), and the schedulers' loops are too long to be followed for every service.
 * What is read from a map is any number, whichever path wrote it, and all paths become one.
 */
enum begins {
	MAY_BE_HALF_OPEN,
	BEGINS_ANEW,	/* where it had an entry */
};

enum binding {
	NOT_AT_ALL,
	ANEW,
	AGAIN,		/* its template holds no more */
};

struct newcomer {
	struct packet packet;		/* but for the pointer into the frame */
	union key key;
	__u64 now_ns;
	__u32 service;
	__u32 begins;
	__u32 set, way;			/* where its half-open connection is, or will be: embryo.h */
	__u32 binds;			/* these two are persist.h's */
	union key template;
};
BPF_TABLE("percpu_array", __u32, struct newcomer, newcomers, 1);

static __always_inline enum outcome set_aside(const struct packet *packet, const union key *key,
					      int service, __u64 now_ns, enum begins begins, __u32 set)
{
	__u32 zero = 0;
	struct newcomer *newcomer = newcomers.lookup(&zero);

	if (!newcomer)
		return OUTCOME_drop_no_real;
	__builtin_memcpy(&newcomer->packet, packet, PACKET_BYTES);
	newcomer->packet.ethernet = NULL;
	if (is_ipv6(packet))
		newcomer->key.ipv6 = key->ipv6;
	else
		newcomer->key.ipv4 = key->ipv4;
	newcomer->now_ns = now_ns;
	newcomer->service = service;
	newcomer->begins = begins;
	newcomer->set = set;
	return NEWCOMER;
}

/* What was set aside. NULL: never. */
static __always_inline struct newcomer *take_up(void)
{
	__u32 zero = 0;

	return newcomers.lookup(&zero);
}

/* The packet again as it was. */
static __always_inline bool unpack(struct packet *packet, const struct newcomer *newcomer, const struct xdp_md *ctx)
{
	void *at = frame_of(ctx);

	if (at + sizeof(struct ethernet) > end_of(ctx))
		return false;
	__builtin_memcpy(packet, &newcomer->packet, PACKET_BYTES);
	packet->ethernet = at;
	return true;
}
