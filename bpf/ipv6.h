/* SPDX-License-Identifier: GPL-2.0-only
 *
 * IPv6's extension headers: what may stand between its header and TCP, UDP or ICMPv6. RFC 8200 section 4
 */
struct extension {
	__u8 next_header;
	__u8 length;			/* units of 8 bytes beyond the first; a fragment header says 0 */
	__be16 fragment;		/* these two in a fragment header: offset << 3, and whether more follow; */
	__be32 id;			/* of the datagram */
};

#define EXTENSIONS_MAX 6		/* RFC 8200 section 4.1 has room for five before a TCP header; nobody needs more */
#define EXTENSIONS_BYTES 2047		/* and all together */
#define FRAGMENT6 0xfff9		/* an offset or "more fragments"; RFC 8200 section 4.5 */
#define FRAGMENT6_OFFSET 0xfff8

static __always_inline bool is_extension(__u8 protocol)
{
	return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING || protocol == IPPROTO_FRAGMENT ||
	       protocol == IPPROTO_DSTOPTS;
}

/* Where the extension headers end that begin at *at, with *room bytes of the packet from there, and what follows them.
 * Of a fragment only the first one says what follows (section 4.5); a datagram in one fragment is whole (RFC 6946). A
 * packet that has to go elsewhere first is not ours yet.
 *
 * The place is kept as a number of bytes below a power of two: kernels then find each turn like the one before it, where a
 * pointer that moves on would be another one each time, with all that follows to be checked again. */
static __always_inline enum outcome skip_extensions(struct packet *packet, const void **at, const void *end, __u32 *room,
						    __u8 *protocol)
{
	const void *start = *at;
	const struct extension *extension;
	__u32 size, skipped = 0;
	int i;

#pragma unroll
	for (i = 0; i < EXTENSIONS_MAX && is_extension(*protocol); i++) {
		extension = start + skipped;
		if (*room < 8 || (const void *)(extension + 1) > end)
			return OUTCOME_drop_malformed;
		if (*protocol == IPPROTO_ROUTING && ((const __u8 *)extension)[3])
			return FOREIGN;		/* segments left */
		size = 8;
		if (*protocol != IPPROTO_FRAGMENT) {
			size += extension->length * 8;
		} else if (extension->fragment & be16(FRAGMENT6)) {
			if (packet->is_first)
				return OUTCOME_drop_malformed;	/* a fragment of a fragment */
			packet->id = extension->id;
			packet->cut = host16(extension->fragment) & FRAGMENT6_OFFSET;
			if (packet->cut)
				return LATER_FRAGMENT;
			packet->cut = *room - size;
			packet->is_first = true;
		}
		if (size > *room || skipped + size > EXTENSIONS_BYTES)
			return OUTCOME_drop_malformed;
		*protocol = extension->next_header;
		*room -= size;
		skipped += size;
		asm volatile("%0 &= %1" : "+r"(skipped) : "i"(EXTENSIONS_BYTES));
	}
	*at = start + skipped;
	return is_extension(*protocol) ? OUTCOME_drop_malformed : OURS;
}
