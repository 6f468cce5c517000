/* SPDX-License-Identifier: GPL-2.0-only
 *
 * IPv6's extension headers: what may stand between its header and TCP, UDP or ICMPv6. RFC 8200 section 4
 */
struct extension {
	__u8 next_header;
	__u8 length;			/* units of 8 bytes beyond the first; a fragment header says 0 */
	__be16 fragment;		/* in a fragment header: offset << 3, and whether more follow */
};

#define EXTENSIONS_MAX 6		/* RFC 8200 section 4.1 has room for five before a TCP header; nobody needs more */
#define FRAGMENT6 0xfff9		/* an offset or "more fragments"; RFC 8200 section 4.5 */

static __always_inline bool is_extension(__u8 protocol)
{
	return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING || protocol == IPPROTO_FRAGMENT ||
	       protocol == IPPROTO_DSTOPTS;
}

/* Where the extension headers end that begin at *at, with *room bytes of the packet from there, and what follows them.
 * A datagram in one fragment is whole (RFC 6946). A packet that has to go elsewhere first is not ours yet. */
static __always_inline enum outcome skip_extensions(const void **at, const void *end, __u32 *room, __u8 *protocol)
{
	const struct extension *extension;
	__u32 size;
	int i;

#pragma unroll
	for (i = 0; i < EXTENSIONS_MAX; i++) {
		if (!is_extension(*protocol))
			return OURS;
		extension = *at;
		if (*room < 8 || *at + 8 > end)
			return OUTCOME_drop_malformed;
		if (*protocol == IPPROTO_FRAGMENT && extension->fragment & be16(FRAGMENT6))
			return extension->next_header == IPPROTO_ICMPV6 ? FOR_KERNEL : OUTCOME_drop_fragment;
		if (*protocol == IPPROTO_ROUTING && ((const __u8 *)extension)[3])
			return FOREIGN;		/* segments left */
		size = 8 + (*protocol == IPPROTO_FRAGMENT ? 0 : extension->length * 8);
		if (size > *room)
			return OUTCOME_drop_malformed;
		*protocol = extension->next_header;
		*at += size;
		*room -= size;
	}
	return is_extension(*protocol) ? OUTCOME_drop_malformed : OURS;
}
