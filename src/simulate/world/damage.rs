//! Updates that arrive damaged.

use crate::simulate::network::Dice;
use crate::simulate::network::Use;
use crate::simulate::scenario::Group;

/// An update as it arrives, where it arrives damaged: cut short, with bytes after its end, or with a
/// bit turned (which may make another valid update).
pub fn of(group: &Group, cluster: usize, bytes: &[u8], dice: Dice) -> Option<Vec<u8>> {
    let rate = group.faults.damage_rate;
    let draw = |i: u64| dice.at(Use::Damage, (cluster as u64) << 8 | i);
    if rate == 0.0 || bytes.is_empty() || draw(0).uniform_f64() >= rate {
        return None;
    }
    let mut damaged = bytes.to_vec();
    match draw(1).below(3) {
        0 => damaged.truncate(draw(2).below(bytes.len() as u64) as usize),
        1 => damaged.extend(draw(2).bits64().to_le_bytes()),
        _ => {
            let bit = draw(2).below(8 * bytes.len() as u64);
            damaged[(bit / 8) as usize] ^= 1 << (bit % 8);
        }
    }
    Some(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::scenario::Faults;

    #[test]
    fn damage_comes_at_its_rate_and_changes_something() {
        let faults = Faults { damage_rate: 0.3, ..Faults::default() };
        let group = Group { faults, ..Group::default() };
        let bytes: Vec<u8> = (0..100).collect();
        let all =
            (0..1000).filter_map(|exchange| of(&group, 2, &bytes, Dice { seed: 1, exchange }));
        let all: Vec<_> = all.collect();
        assert!((230..370).contains(&all.len()), "{}", all.len());
        assert!(all.iter().all(|damaged| *damaged != bytes));
        for kind in [|n: usize| n < 100, |n: usize| n == 100, |n: usize| n > 100] {
            assert!(all.iter().any(|damaged| kind(damaged.len())));
        }
        assert_eq!(of(&Group::default(), 2, &bytes, Dice { seed: 1, exchange: 0 }), None);
    }
}
