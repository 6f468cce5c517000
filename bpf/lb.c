/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The packet program: parse; recall the connection's real, or ask the table for it, or schedule it; forward; count.
 *
 * lb.datapath.source splices the headers into this text, because bcc rewrites map calls in the main text only, and puts
 * the configuration in front of it.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "byteorder.h"
#include "abi.h"
#include "maps.h"
#include "clock.h"
#include "stats.h"
#include "service.h"
#include "frame.h"
#include "lease.h"
#include "cache.h"
#include "conn.h"
#include "vlan.h"
#include "icmp.h"
#include "parse.h"
#include "arp.h"
#include "sched.h"
#include "forward.h"

/* Which packet is it, and is it ours? Needs no map, and no clock. */
static __always_inline enum outcome parse(struct packet *packet, void *at, const void *end)
{
	struct ethernet *ethernet = at;
	__be16 type;

	if ((void *)(ethernet + 1) > end)
		return FOREIGN;
	packet->ethernet = ethernet;
	at = ethernet + 1;
	type = skip_tags(ethernet->type, &at, end);
	/* Else clang makes a copy of what follows for each number of tags, and the verifier walks through all of them. */
	asm volatile("" : "+r"(at));
	if (type == be16(ETH_P_IP))
		return parse_ipv4(packet, at, end);
	if (type == be16(ETH_P_ARP))
		return parse_arp(at, end);
	return FOREIGN;
}

/* The long way: ask the connection table for the packet's real, note what the packet changes there, and schedule what is
 * new. Every change of an entry that a packet makes is made here, and told. */
static __always_inline enum outcome track(struct packet *packet, struct connection_key *key,
					  const struct place *place, __u64 now_ns, __u32 *index)
{
	__u32 now_t = now_ns >> TICK_SHIFT;
	int service = match_service(packet->virtual, packet->ports >> 16, packet->protocol);
	struct connection *found;
	struct real_stats *stats;
	enum outcome outcome;
	bool known, tell;
	__u8 state;

	if (service == NO_SERVICE)
		return OUTCOME_passed;

	found = connections.lookup(key);
	if (packet->is_error)
		return relate(found, packet, now_ns, index);
	known = found && goes_on(found, packet, now_t);
	if (!may_open(packet) && (!known || is_finished(found))) {
		outcome = refer(packet, now_ns);
		if (outcome != OURS)
			return outcome;
	}
	if (known) {
		tell = touch(found, packet, place, now_t);
		*index = found->real;
		state = found->state;
		remember(place, key, *index, state);
		if (!tell)
			return OURS;
	} else if (may_open(packet)) {
		outcome = schedule_connection(service, packet->client, index);
		if (outcome != OURS)
			return outcome;
		state = first_state(packet);
		outcome = insert_connection(key, found, place, index, state, now_t);
		if (outcome != OURS)
			return outcome;
		stats = real_stats.lookup(index);
		if (stats)
			stats->connections++;
	} else {
		return disown(now_ns);
	}

	tell_event(key, *index, state, now_t);
	return OURS;
}

static __always_inline enum outcome balance(struct packet *packet, __u64 now_ns)
{
	struct place place = find_place(packet, now_ns >> TICK_SHIFT);
	struct connection_key key;
	struct real_stats *stats;
	enum outcome outcome;
	struct real *real;
	__u32 index;

	write_key(&key, packet);
	if (!recall(&place, packet, &key, &index)) {
		outcome = track(packet, &key, &place, now_ns, &index);
		if (outcome != OURS)
			return outcome;
	}
	real = reals.lookup(&index);
	stats = real_stats.lookup(&index);
	if (!real || !stats)
		return OUTCOME_drop_no_real;
	return forward(packet, real, stats);
}

int lb(struct xdp_md *ctx)
{
	struct packet packet = {};
	enum outcome outcome = parse(&packet, (void *)(long)ctx->data, (void *)(long)ctx->data_end);

	if (outcome == OURS)
		outcome = balance(&packet, read_clock());
	else if (outcome == QUESTION)
		outcome = answer_arp(read_clock());
	else if (outcome == FOR_KERNEL)
		outcome = disown(read_clock());
	return leave(outcome);
}
