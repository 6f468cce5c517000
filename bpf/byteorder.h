/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Wire order to host order and back. The tree of UAPI headers has no htons and friends, and an undeclared call of one
 * would only fail at load ("jump out of range").
 */
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the numpy types of lb.abi expect a little-endian machine"
#endif

#define be16(x) ((__be16)__builtin_bswap16(x))
#define be32(x) ((__be32)__builtin_bswap32(x))
#define be64(x) ((__be64)__builtin_bswap64(x))
#define host16(x) ((__u16)__builtin_bswap16(x))
#define host32(x) ((__u32)__builtin_bswap32(x))
#define host64(x) ((__u64)__builtin_bswap64(x))
