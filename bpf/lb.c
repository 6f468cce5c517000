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
#include "embryo.h"
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

/* The long way: ask the connection table for the packet's real, note what the packet changes there, or set the packet
 * aside: it has no entry. */
static __always_inline enum outcome track(struct packet *packet, union key *key, struct place *place,
					  __u64 now_ns, __u32 *index)
{
	const int keys = key_words(packet);
	__u32 now_t = now_ns >> TICK_SHIFT, set;
	int service = match_service(packet);
	struct connection *found;
	enum fate fate = GOES_ON;
	enum outcome outcome;
	bool known, tell;

	if (service == NO_SERVICE)
		return OUTCOME_passed;
	if (is_denied(packet))
		return OUTCOME_drop_denied;

	set = embryo_set_of(key, keys);
	if (may_open(packet))
		fetch_ahead(set, keys);
	found = find_entry(packet, key);
	if (!found)
		return set_aside(packet, key, service, now_ns, MAY_BE_HALF_OPEN, set);
	if (packet->is_error)
		return relate(found, packet, now_ns, index);
	if (!is_quiet(packet))
		*place = find_place(packet, now_t);
	known = goes_on(found, packet, now_t);
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
		if (fate == ENDED || may_open(packet))
			end_connection(packet, key, found, place);
		return may_open(packet) ? set_aside(packet, key, service, now_ns, BEGINS_ANEW, set) : disown(now_ns);
	}

	note_repeat(found, packet);
	tell = touch(found, packet, place, now_t);
	*index = found->real;
	remember(place, packet, key, *index, found->state);
	if (tell)
		tell_event(packet, key, *index, found->state, now_t);
	return OURS;
}

/* The client's second packet makes a half-open connection whole. */
static __always_inline enum outcome make_whole(const struct packet *packet, struct newcomer *newcomer,
					       const struct crib *crib, const struct connection *young, __u32 *index)
{
	__u32 now_t = newcomer->now_ns >> TICK_SHIFT;
	struct place place = find_place(packet, now_t);
	struct connection *found = grow_up(packet, &newcomer->key, crib, key_words(packet), young, now_t);

	if (!found)
		return OUTCOME_drop_table_full;
	*index = found->real;
	bind_for_good(packet, newcomer, *index);
	touch(found, packet, &place, now_t);
	remember(&place, packet, &newcomer->key, *index, found->state);
	tell_event(packet, &newcomer->key, *index, found->state, now_t);
	return OURS;
}

/* A packet without an entry: of a half-open connection, or nobody's; NEWCOMER: it opens one. */
static __always_inline enum outcome meet(struct packet *packet, struct newcomer *newcomer, __u32 *index)
{
	const int keys = key_words(packet);
	struct crib crib = crib_in(set_at(newcomer->set, keys), &newcomer->key, keys, newcomer->now_ns >> MOMENT_SHIFT);
	struct connection young = {};
	bool half_open = find_embryo(&crib, keys, newcomer->now_ns, &young);
	enum fate fate = ENDED;
	enum outcome outcome;

	newcomer->way = crib.way;
	if (newcomer->begins == BEGINS_ANEW)
		return NEWCOMER;
	if (packet->is_error)
		return relate(half_open ? &young : NULL, packet, newcomer->now_ns, index);
	half_open = half_open && !ran_out(&young, newcomer->now_ns >> TICK_SHIFT);
	if (!may_open(packet) && !half_open) {
		outcome = refer(packet, newcomer->now_ns);
		return outcome == OURS ? disown(newcomer->now_ns) : outcome;
	}
	if (half_open)
		fate = fate_of(&young, packet, newcomer->service);
	if (fate == HELD_UP)
		return OUTCOME_drop_real_gone;
	if (fate == GOES_ON) {
		note_repeat(&young, packet);
		if (grows_up(packet, &young))
			return make_whole(packet, newcomer, &crib, &young, index);
		*index = young.real;	/* its SYN again, or a reset, which changes nothing: what it resets may be another one */
		write_value(&crib, keys, newcomer->now_ns, young.real, young.state);
		return OURS;
	}
	if (may_open(packet) && is_too_fast(packet, newcomer->now_ns))
		return OUTCOME_drop_too_fast;
	if (half_open)
		end_embryo(&crib, keys, &young);
	return may_open(packet) ? NEWCOMER : disown(newcomer->now_ns);
}

/* A first packet's connection, where `meet` found a place for it; its client's template may have come there since. */
static __always_inline void lay_down(const struct newcomer *newcomer, const int keys, __u32 real)
{
	__u64 *set = set_at(newcomer->set, keys);
	struct crib crib = {};

	if (!set)
		return;
	if (PERSISTENCE)
		crib = crib_in(set, &newcomer->key, keys, newcomer->now_ns >> MOMENT_SHIFT);
	else
		crib.words = set + (newcomer->way & (EMBRYO_WAYS - 1)) * ENTRY_WORDS(keys);
	lay_into(&crib, &newcomer->key, keys, real, first_state(&newcomer->packet), newcomer->now_ns);
}

/* Choose the real of the connection that the packet opens. */
static __always_inline enum outcome admit(struct newcomer *newcomer, __u32 *index)
{
	__u32 now_t = newcomer->now_ns >> TICK_SHIFT;
	enum outcome outcome = choose_real(newcomer, index, now_t);

	if (outcome != OURS || is_one_packet(newcomer->service))
		return outcome;
	if (is_ipv6(&newcomer->packet))
		lay_down(newcomer, KEY6_WORDS, *index);
	else
		lay_down(newcomer, KEY4_WORDS, *index);
	return OURS;
}

/* The packet's real: known by heart, known to the table, or a NEWCOMER's to be chosen. */
static __always_inline enum outcome find_real(struct packet *packet, __u64 now_ns, __u32 *index)
{
	struct place place = {};
	union key key;

	write_key(&key, packet);
	if (is_quiet(packet)) {
		place = find_place(packet, now_ns >> TICK_SHIFT);
		if (recall(&place, packet, &key, index))
			return OURS;
	}
	return track(packet, &key, &place, now_ns, index);
}

/* A packet that was set aside. As below, a copy of what is asked of a packet's family for each. */
static __always_inline enum outcome receive_again(struct packet *packet, const struct xdp_md *ctx, __u32 *index)
{
	struct newcomer *newcomer = take_up();
	enum outcome outcome;

	if (!newcomer || !unpack(packet, newcomer, ctx))
		return OUTCOME_drop_malformed;
	if (IPV6_SERVICES && packet->ipv6) {
		packet->ipv6 = true;
		outcome = meet(packet, newcomer, index);
	} else {
		packet->ipv6 = false;
		outcome = meet(packet, newcomer, index);
	}
	if (outcome != NEWCOMER)
		return outcome;
	/* Else the verifier would follow the schedulers for each. */
	if (!unpack(packet, newcomer, ctx))
		return OUTCOME_drop_malformed;
	packet->opens = true;
	return admit(newcomer, index);
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
	enum outcome outcome;
	__u32 index = 0;

	measure(&packet, ctx);
	outcome = receive(&packet, frame_of(ctx), end_of(ctx), &index);
	if (outcome == LATER_FRAGMENT)
		outcome = follow_first(ctx, &packet, read_clock(), &index);
	else if (outcome == QUESTION)
		outcome = answer_arp(read_clock());
	else if (outcome == SOLICITATION)
		outcome = answer_nd(read_clock());
	else if (outcome == FOR_KERNEL)
		outcome = disown(read_clock());
	if (outcome == NEWCOMER)
		outcome = receive_again(&packet, ctx, &index);
	if (outcome == OURS)
		outcome = forward(ctx, &packet, index);
	else if (outcome == OUTCOME_drop_no_real)
		outcome = refuse(ctx, &packet);
	if (packet.is_first && outcome != OUTCOME_drop_malformed)
		lead_later(&packet, outcome, index, read_clock());
	return leave(outcome);
}
