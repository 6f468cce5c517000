/* SPDX-License-Identifier: GPL-2.0-only
 *
 * A frame, and what the program knows of the packet in it once it is parsed.
 */
struct ethernet {		/* with VLAN tags, `type` is the first one's */
	__u16 destination[3];	/* halfwords in memory order: MACs are copied and compared, never computed with */
	__u16 source[3];
	__be16 type;
};

struct ipv6 {			/* RFC 8200 section 3 */
	__be32 version;			/* its upper 4 bits; then traffic class and flow label */
	__be16 payload_length;		/* all that follows, extension headers included */
	__u8 next_header;
	__u8 hop_limit;
	__be64 source[2];
	__be64 destination[2];
};

/* Whoever asks for its family asks a constant: there is a copy of everything that a packet goes through for each family
 * that has virtuals, and none for the other. */
struct packet {
	struct ethernet *ethernet;
	bool ipv6;
	__u32 ports;		/* the client's and the virtual's, as they lie side by side on the wire */
	__u8 protocol;
	__u8 tcp_flags;
	__u16 length;		/* IPv4's total length, or the same of IPv6 */
	__u8 link;		/* bytes in front of the IP header: 14, and 4 for each tag */
	__u16 cut;		/* where a later fragment begins, or the first one ends: bytes of the datagram */
	__be32 id;		/* of a fragment's datagram */
#if JUMBO
	__u32 beyond;		/* bytes of the frame behind its first buffer, the only one that is looked at */
#endif
	bool is_error;		/* ICMP's, about a packet of this connection */
	bool is_first;		/* the first fragment of a datagram */
	bool opens;		/* a connection, whose real was chosen for it */
	union {
		struct {
			__be32 client;
			__be32 virtual;
		};
		struct {
			__be64 client6[2];
			__be64 virtual6[2];
			__u32 number;	/* of the virtual address: service.h */
		};
	};
};

/* Without IPv6 the rest of it is never looked at. */
#define PACKET_BYTES (IPV6_SERVICES ? sizeof(struct packet) : __builtin_offsetof(struct packet, client6[1]))

/* Where the frame begins, and where what is looked at of it ends. In words of the machine, because clang keeps `ctx + 4`
 * in a register for several reads of it, which the verifier refuses. */
#define READ_WORD_OF(ctx, field) \
	({ \
		void *word; \
		asm volatile("%0 = *(u32 *)(%1 + %2)" \
			     : "=r"(word) \
			     : "r"(ctx), "i"(__builtin_offsetof(struct xdp_md, field))); \
		word; \
	})

static __always_inline void *frame_of(const struct xdp_md *ctx)
{
	return READ_WORD_OF(ctx, data);
}

static __always_inline void *end_of(const struct xdp_md *ctx)
{
	return READ_WORD_OF(ctx, data_end);
}

/* Bytes in front of the IP header, read anew. What was compared before, verifiers have narrowed: where two compares cannot both
 * be true, kernels before 6.8 end up with an empty range, and forget a pointer that it is added to. */
static __always_inline __u32 link_of(const struct packet *packet)
{
	return *(const volatile __u8 *)&packet->link & 31;
}

/* The IP header of a packet that has been parsed. NULL: never; the verifier has forgotten what was looked at. */
static __always_inline const struct iphdr *ip_of(const struct xdp_md *ctx, const struct packet *packet)
{
	const struct iphdr *ip = (const void *)packet->ethernet + link_of(packet);

	return (const void *)(ip + 1) > end_of(ctx) ? NULL : ip;
}

/* A fragment, and not the first one. */
static __always_inline bool is_later(const struct packet *packet)
{
	return packet->cut && !packet->is_first;
}

static __always_inline bool is_ipv6(const struct packet *packet)
{
	return IPV6_SERVICES && (!IPV4_SERVICES || packet->ipv6);
}

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10
#define FRAGMENT 0x3fff		/* "more fragments" or an offset; RFC 791 section 3.1 */
#define FRAGMENT_OFFSET 0x1fff

/* A frame may be longer than what the program sees of it: in several buffers, where the interface's MTU wants that. */
#if JUMBO
#define BEYOND(packet) ((packet)->beyond)
#else
#define BEYOND(packet) 0
#endif

/* Bytes from here to the end of the first buffer. */
static __always_inline __u32 bytes_seen(const void *at, const void *end)
{
	__u32 bytes = end - at;

#if JUMBO
	asm volatile("" : "+r"(bytes));		/* else clang adds to a pointer what it may only subtract */
#endif
	return bytes;
}

static __always_inline void measure(struct packet *packet, struct xdp_md *ctx)
{
#if JUMBO
	packet->beyond = bpf_xdp_get_buff_len(ctx) - bytes_seen(frame_of(ctx), end_of(ctx));
#endif
}
