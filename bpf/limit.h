/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Who may not, and who not so often. Denied clients are found when a packet asks the table: what is never remembered by
 * heart always does. Both maps are this program's alone: another configuration is another program, swapped in with its
 * lists in one step.
 *
 * The rate is a token bucket for each client, held as the time when it is full again (GCRA): one number, one store. Two
 * CPUs may take the same token at once. Clients are forgotten by the least recently seen; a forgotten one's bucket is full.
 *
 * Generated: DENYING, LIMITING (0 or 1), DENIED_MAX, CLIENTS_MAX, INTERVAL_NS (between two connections in the long run),
 * BURST_NS (so much of it at once).
 */
BPF_F_TABLE("lpm_trie", struct denied_key, __u32, denied_by, DENIED_MAX, BPF_F_NO_PREALLOC);
BPF_TABLE("percpu_array", __u32, __u64, denied_packets, DENY_LISTS_MAX);
BPF_TABLE("lru_hash", __u64, __u64, allowances, CLIENTS_MAX);

/* Is the client on a list? That list counts. */
static __always_inline bool is_denied(const struct packet *packet)
{
#if DENYING
	struct denied_key key = { .family = 4, .prefix = 32 + 32 };
	__u64 *packets;
	__u32 *list;

	if (is_ipv6(packet)) {
		key.family = 6;
		key.prefix = 32 + 128;
		key.denied[0] = packet->client6[0];
		key.denied[1] = packet->client6[0] >> 32;
		key.denied[2] = packet->client6[1];
		key.denied[3] = packet->client6[1] >> 32;
	} else {
		key.denied[0] = packet->client;
	}
	list = denied_by.lookup(&key);
	if (!list)
		return false;
	packets = denied_packets.lookup(list);
	if (packets)
		(*packets)++;
	return true;
#else
	return false;
#endif
}

/* Has the client opened too many connections lately? If not, this one is counted. */
static __always_inline bool is_too_fast(const struct packet *packet, __u64 now_ns)
{
#if LIMITING
	__u64 client = is_ipv6(packet) ? packet->client6[0] : packet->client;	/* of IPv6 a /64 */
	__u64 *found = allowances.lookup(&client);
	__u64 full_ns = (found && *found > now_ns ? *found : now_ns) + INTERVAL_NS;

	if (full_ns > now_ns + BURST_NS)
		return true;
	if (found)
		*found = full_ns;
	else
		allowances.update(&client, &full_ns);
#endif
	return false;
}
