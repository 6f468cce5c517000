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
#include <linux/in6.h>
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
#include "mac.h"
#include "family.h"
#include "lease.h"
#include "cache.h"
#include "load.h"
#include "conn.h"
#include "repeat.h"
#include "leaving.h"
#include "newcomer.h"
#include "limit.h"
#include "vlan.h"
#include "icmp.h"
#include "parse.h"
#include "ipv6.h"
#include "icmpv6.h"
#include "parse6.h"
#include "arp.h"
#include "nd.h"
#include "candidate.h"
#include "locality.h"
#include "fragment.h"
#include "sched.h"
#include "persist.h"
#include "answer.h"
#include "answer6.h"
#include "refuse.h"
#include "send.h"
#include "tunnel.h"
#include "forward.h"

/* The long way: ask the connection table for the packet's real, note what the packet changes there, or find that it opens
 * a connection. */
static __always_inline enum outcome track(struct packet *packet, union key *key, const struct place *place,
					  __u64 now_ns, __u32 *index)
{
	__u32 now_t = now_ns >> TICK_SHIFT;
	int service = match_service(packet);
	struct connection *found;
	enum fate fate = GOES_ON;
	enum outcome outcome;
	bool known, tell;

	if (service == NO_SERVICE)
		return OUTCOME_passed;
	if (is_denied(packet))
		return OUTCOME_drop_denied;

	found = find_entry(packet, key);
	if (packet->is_error)
		return relate(found, packet, now_ns, index);
	known = found && goes_on(found, packet, now_t);
	if (!may_open(packet) && (!known || is_finished(found))) {
		outcome = refer(packet, now_ns);
		if (outcome != OURS)
			return outcome;
	}
	if (known) {
		fate = fate_of(found, packet, service);
		if (fate == HELD_UP)
			return OUTCOME_drop_real_gone;
		if (fate == ENDED)
			known = false;
	}
	if (!known) {
		if (may_open(packet) && is_too_fast(packet, now_ns))
			return OUTCOME_drop_too_fast;
		if (found && (fate == ENDED || may_open(packet)))
			end_connection(packet, key, found, place);
		return may_open(packet) ? set_aside(packet, key, service, now_ns) : disown(now_ns);
	}

	note_repeat(found, packet);
	tell = touch(found, packet, place, now_t);
	*index = found->real;
	remember(place, packet, key, *index, found->state);
	if (tell)
		tell_event(packet, key, *index, found->state, now_t);
	return OURS;
}

/* Enter the connection, and tell. */
static __always_inline enum outcome enter_connection(struct newcomer *newcomer, __u32 *index, __u32 now_t)
{
	const struct packet *packet = &newcomer->packet;
	__u8 state = first_state(packet);	/* not before: the verifier would follow the schedulers for each */
	enum outcome outcome = insert_connection(packet, &newcomer->key, index, state, now_t);

	if (outcome == OURS)
		tell_event(packet, &newcomer->key, *index, state, now_t);
	return outcome;
}

/* Choose the real of the connection that the packet opens. */
static __always_inline enum outcome admit(struct newcomer *newcomer, __u32 *index)
{
	__u32 now_t = newcomer->now_ns >> TICK_SHIFT;
	enum outcome outcome = choose_real(newcomer, index, now_t);
	struct real_stats *stats;

	if (outcome == OURS && !is_one_packet(newcomer->service))
		outcome = enter_connection(newcomer, index, now_t);
	if (outcome != OURS)
		return outcome;
	stats = real_stats.lookup(index);
	if (stats)
		stats->connections++;
	return OURS;
}

/* The packet's real: known by heart, known to the table, or a NEWCOMER's to be chosen. */
static __always_inline enum outcome find_real(struct packet *packet, __u64 now_ns, __u32 *index)
{
	struct place place = find_place(packet, now_ns >> TICK_SHIFT);
	union key key;

	write_key(&key, packet);
	if (recall(&place, packet, &key, index))
		return OURS;
	return track(packet, &key, &place, now_ns, index);
}

/* A copy of all that leads to the packet's real, for each family that has virtuals: what asks for a packet's family is
 * decided when it is compiled. */
static __always_inline enum outcome receive(struct packet *packet, struct ethernet *ethernet, const void *end, __u32 *index)
{
	enum outcome outcome;
	void *at = ethernet + 1;
	__be16 type;

	if (at > end)
		return FOREIGN;
	packet->ethernet = ethernet;
	type = skip_tags(ethernet->type, &at, end);
	/* Else clang makes a copy of what follows for each number of tags, and the verifier walks through all of them. */
	asm volatile("" : "+r"(at));
	packet->link = at - (void *)ethernet;
	if (IPV4_SERVICES && type == be16(ETH_P_IP)) {
		outcome = parse_ipv4(packet, at, end);
		return outcome == OURS ? find_real(packet, read_clock(), index) : outcome;
	}
	if (IPV6_SERVICES && type == be16(ETH_P_IPV6)) {
		packet->ipv6 = true;
		outcome = parse_nd(packet, at, end);
		if (outcome == OURS)
			outcome = parse_ipv6(packet, at, end);
		return outcome == OURS ? find_real(packet, read_clock(), index) : outcome;
	}
	if (IPV4_SERVICES && type == be16(ETH_P_ARP))
		return parse_arp(at, end);
	return FOREIGN;
}

int lb(struct xdp_md *ctx)
{
	struct packet packet = {};
	struct newcomer *newcomer;
	enum outcome outcome;
	__u32 index = 0;

	measure(&packet, ctx);
	outcome = receive(&packet, (void *)(long)ctx->data, (void *)(long)ctx->data_end, &index);
	if (outcome == LATER_FRAGMENT)
		outcome = follow_first(ctx, &packet, read_clock(), &index);
	else if (outcome == QUESTION)
		outcome = answer_arp(read_clock());
	else if (outcome == SOLICITATION)
		outcome = answer_nd(read_clock());
	else if (outcome == FOR_KERNEL)
		outcome = disown(read_clock());
	if (outcome == NEWCOMER) {
		newcomer = take_up(&packet, ctx);
		outcome = newcomer ? admit(newcomer, &index) : OUTCOME_drop_malformed;
	}
	if (outcome == OURS)
		outcome = forward(ctx, &packet, index);
	else if (outcome == OUTCOME_drop_no_real)
		outcome = refuse(ctx, &packet);
	if (packet.is_first && outcome != OUTCOME_drop_malformed)
		lead_later(&packet, outcome, index, read_clock());
	return leave(outcome);
}
