/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What becomes of a connection whose real left its service: because it is down and its virtual not quiescent (REAL_GONE,
 * until it is up again), or because it is not configured any more (REAL_RETIRED). IPVS's expire_nodest_conn: without it
 * packets to one that is gone are dropped, and the connection is there if it returns; those to a retired one go on.
 *
 * Generated: LEAVING (0 or 1), EXPIRING_NODEST(_) with _(service).
 */
enum fate {
	GOES_ON,
	HELD_UP,
	ENDED,
};

static __always_inline bool expires_nodest(int service)
{
	switch (service) {
#define CASE(service) \
	case service: \
		return true;
	EXPIRING_NODEST(CASE)
#undef CASE
	default:
		return false;
	}
}

/* A client that begins anew need not go back to a real without weight either. */
static __always_inline enum fate fate_of(const struct connection *known, const struct packet *packet, int service)
{
#if LEAVING
	__u32 index = known->real;
	struct real *real = reals.lookup(&index);

	if (!real)
		return GOES_ON;
	if (!expires_nodest(service))
		return real->flags & REAL_GONE ? HELD_UP : GOES_ON;
	if (real->flags & (REAL_GONE | REAL_RETIRED))
		return ENDED;
	if (packet->protocol == IPPROTO_TCP && may_open(packet) && !real->weight)
		return ENDED;
#endif
	return GOES_ON;
}
