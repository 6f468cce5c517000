/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Which MACs are ours. The virtual addresses may be at one of their own, which whoever is active announces: no host then
 * need learn anything when another director takes over.
 *
 * Generated: OUR_MACS(_) with _(mac_0, mac_1, mac_2) for each interface; VIRTUAL_MAC, 1 if the virtual addresses are at a
 * MAC of their own, and then VIRTUAL_MAC_0 to _2, and OUR_MAC_0 to _2 of the interface that they are on.
 */
static __always_inline bool is_same_mac(const __u16 *one, const __u16 *other)
{
	return one[0] == other[0] && one[1] == other[1] && one[2] == other[2];
}

static __always_inline bool is_our_mac(const __u16 *mac)
{
#define IS(mac_0, mac_1, mac_2) || (mac[0] == mac_0 && mac[1] == mac_1 && mac[2] == mac_2)
	return false OUR_MACS(IS);
#undef IS
}

#if VIRTUAL_MAC
static __always_inline bool is_virtual_mac(const __u16 *mac)
{
	return mac[0] == VIRTUAL_MAC_0 && mac[1] == VIRTUAL_MAC_1 && mac[2] == VIRTUAL_MAC_2;
}
#endif

/* May a frame to this MAC be for a virtual? Whoever *claims* an address at the virtual MAC is another director: what
 * this host sends does not come in. */
static __always_inline bool is_sent_to_us(const __u16 *mac)
{
#if VIRTUAL_MAC
	if (is_virtual_mac(mac))
		return true;
#endif
	return is_our_mac(mac);
}

/* From where a frame leaves: from the MAC to which it came, but never from the virtual one. Switches learn by
 * announcements where that is, and must not learn it from what a director still forwards that is active no more. */
static __always_inline void write_source(__u16 *source, const __u16 *sent_to)
{
#if VIRTUAL_MAC
	if (is_virtual_mac(sent_to)) {
		source[0] = OUR_MAC_0;
		source[1] = OUR_MAC_1;
		source[2] = OUR_MAC_2;
		return;
	}
#endif
	__builtin_memcpy(source, sent_to, MAC_BYTES);
}
