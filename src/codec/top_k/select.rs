//! The largest magnitudes of a chunk.

/// Bits of an f32 without its sign: ordered as the magnitudes of finite numbers are.
const MAGNITUDE: u32 = 0x7fff_ffff;

/// Overwrites `picked` with place and value of the `k` largest magnitudes of `chunk`, by place;
/// of equal magnitudes the first count. Those whose bits are below `floor` do not.
pub(super) fn largest(chunk: &[f32], k: usize, floor: u32, picked: &mut Vec<(u16, f32)>) {
    picked.clear();
    let worthy = chunk.iter().enumerate().filter(|(_, x)| x.to_bits() & MAGNITUDE >= floor);
    picked.extend(worthy.map(|(i, &x)| (i as u16, x)));
    if picked.len() > k {
        let key = |&(i, x): &(u16, f32)| (!(x.to_bits() & MAGNITUDE), i);
        picked.select_nth_unstable_by_key(k, key);
        picked.truncate(k);
        picked.sort_unstable_by_key(|&(i, _)| i);
    }
}

/// Bits of the largest magnitude of `chunk`.
pub(super) fn largest_bits(chunk: &[f32]) -> u32 {
    chunk.iter().fold(0, |max, x| max.max(x.to_bits() & MAGNITUDE))
}
