/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Two kinds of maps. Pinned ones outlive the program and the process: each new program opens what it finds below
 * PINS (whose name holds a hash of abi.h and of the sizes, since the kernel does not check what a pin's bytes mean).
 * The others belong to one loaded program and are filled before it is attached.
 */
BPF_TABLE_PINNED("array", __u32, struct real, reals, REALS_MAX, PINS "/reals");
BPF_TABLE_PINNED("array", __u32, struct way, ways, REALS_MAX, PINS "/ways");
BPF_TABLE_PINNED("percpu_array", __u32, struct real_stats, real_stats, REALS_MAX, PINS "/real_stats");
BPF_TABLE_PINNED("array", __u32, struct service, services, SERVICES_MAX, PINS "/services");
BPF_TABLE_PINNED("percpu_array", __u32, struct counters, counters, 1, PINS "/counters");
BPF_TABLE_PINNED("percpu_array", __u32, struct answered, answered, 1, PINS "/answered");
BPF_TABLE_PINNED("array", __u32, struct lease, lease, 1, PINS "/lease");

BPF_F_TABLE("array:" PINS "/epochs", __u32, struct epoch, epochs, EPOCHS, BPF_F_MMAPABLE);
BPF_F_TABLE("array:" PINS "/loads", __u32, struct load, loads, REALS_MAX, BPF_F_MMAPABLE);

/* Each family's connections. bcc has no macro for a pinned ring; `leaf` is there for its description only: a ring has no
 * leaves. */
#if IPV4_SERVICES
BPF_TABLE_PINNED("lru_hash", struct connection_key, struct connection, connections, CONNECTIONS_MAX,
		 PINS "/connections");
BPF_F_TABLE("array:" PINS "/embryos", __u32, struct embryo_set, embryos, 1 << EMBRYO_SET_BITS, BPF_F_MMAPABLE);

struct events_table {
	int key;
	struct event leaf;
	int (*ringbuf_output)(void *, u64, u64);
	u32 max_entries;
};
__attribute__((section("maps/ringbuf:" PINS "/events")))
struct events_table events = { .max_entries = EVENTS_BYTES };
#endif

#if IPV6_SERVICES
BPF_TABLE_PINNED("lru_hash", struct connection_key6, struct connection, connections6, CONNECTIONS_MAX,
		 PINS "/connections6");
BPF_F_TABLE("array:" PINS "/embryos6", __u32, struct embryo6_set, embryos6, 1 << EMBRYO_SET_BITS, BPF_F_MMAPABLE);

struct events6_table {
	int key;
	struct event6 leaf;
	int (*ringbuf_output)(void *, u64, u64);
	u32 max_entries;
};
__attribute__((section("maps/ringbuf:" PINS "/events6")))
struct events6_table events6 = { .max_entries = EVENTS_BYTES };
#endif

BPF_TABLE_PINNED("lru_hash", struct datagram_key, struct datagram, datagrams, DATAGRAMS_MAX, PINS "/datagrams");

struct earlies_table {
	int key;
	struct early leaf;
	void *(*ringbuf_reserve)(u64);
	void (*ringbuf_submit)(void *, u64);
	u32 max_entries;
};
__attribute__((section("maps/ringbuf:" PINS "/earlies")))
struct earlies_table earlies = { .max_entries = EARLIES_BYTES };

BPF_TABLE_PINNED("percpu_array", __u32, struct pace, paces, 1, PINS "/paces");

struct clock {
	__u64 jiffies;
	__u64 now_ns;
	__u64 woken;		/* the jiffy in which this CPU last woke the reader of events */
};
BPF_TABLE("percpu_array", __u32, struct clock, clocks, 1);

/* User space writes these three through mmap: a table or list first, then the one store that makes it current. */
BPF_F_TABLE("array", __u32, struct schedule, schedules, SERVICES_MAX, BPF_F_MMAPABLE);
BPF_F_TABLE("array", __u32, __u64, slots, SLOTS_MAX, BPF_F_MMAPABLE);
BPF_F_TABLE("array", __u32, struct candidates, lists, LISTS_MAX, BPF_F_MMAPABLE);

BPF_TABLE("lru_hash", struct locality_key, struct locality, localities, LOCALITIES_MAX);
