/* SPDX-License-Identifier: GPL-2.0-only
 *
 * VLAN tags, IEEE 802.1Q and 802.1ad. A virtual is the same in every VLAN, and a frame leaves with the tags it came
 * with: who asked in a VLAN is served by a real that the switch reaches in it.
 *
 * A card that takes tags off the frames it receives shows none of them to any XDP program, and a frame that the program
 * sends out then leaves without (`ethtool -K DEV rxvlan off`; lbctl doctor looks).
 */
struct vlan_tag {		/* behind the EtherType that announces it */
	__be16 control;
	__be16 type;
};

#define TAGS_MAX 2		/* a provider's and a customer's; with more, a frame is foreign */

static __always_inline bool is_tag(__be16 type)
{
	return type == be16(ETH_P_8021Q) || type == be16(ETH_P_8021AD);
}

/* Move *at behind all tags. Returns the EtherType of what stands there; of a tag that is cut off, its own. */
static __always_inline __be16 skip_tags(__be16 type, void **at, const void *end)
{
	const struct vlan_tag *tag;
	int i;

	if (type == be16(ETH_P_IP))
		return type;
#pragma unroll
	for (i = 0; i < TAGS_MAX && is_tag(type); i++) {
		tag = *at;
		if ((const void *)(tag + 1) > end)
			break;
		type = tag->type;
		*at += sizeof(*tag);
	}
	return type;
}
