/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What time is it? CLOCK_MONOTONIC, at most one tick of the kernel's timer old (4 ms at 250 Hz). Reading the clock
 * costs 35 ns a packet, the coarse one 18; the count of jiffies costs nothing, and says when another look is due.
 */
static __always_inline __u64 read_clock(void)
{
	__u32 zero = 0;
	struct clock *clock = clocks.lookup(&zero);
	__u64 jiffies = bpf_jiffies64();

	if (!clock)
		return bpf_ktime_get_ns();
	if (clock->jiffies != jiffies) {
		clock->jiffies = jiffies;
		clock->now_ns = bpf_ktime_get_ns();
	}
	return clock->now_ns;
}
