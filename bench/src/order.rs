//! A shuffled order that a seed repeats, so that nobody always runs after the same neighbour.

/// Shuffles. The generator is SplitMix64; nothing secret hangs on it.
#[derive(Debug)]
pub(crate) struct Shuffle {
    seed: u64,
    state: u64,
}

impl Shuffle {
    /// Begins with `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    /// The seed it began with.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Puts `things` into an order in which each is equally likely (up to a bias of 2⁻⁶⁰ for a handful of them).
    pub(crate) fn apply<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            let other = self.next() % (last as u64 + 1);
            things.swap(last, other as usize);
        }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_a_seed_repeats_and_everyone_is_first_sometimes() {
        let orders = |seed| {
            let mut shuffle = Shuffle::new(seed);
            let mut things = [0, 1, 2, 3, 4];
            (0..200).map(|_| (shuffle.apply(&mut things), things).1).collect::<Vec<_>>()
        };
        let once = orders(7);
        assert_eq!(once, orders(7));
        assert_ne!(once, orders(8));
        for thing in 0..5 {
            assert!(once.iter().any(|order| order[0] == thing));
            assert!(once.iter().all(|order| order.contains(&thing)));
        }
    }
}
