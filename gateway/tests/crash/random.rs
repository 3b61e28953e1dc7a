//! Random numbers that a seed tells.

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of a range.
    pub(crate) fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.number() % (range.end - range.start)
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.within(0..at as u64 + 1) as usize);
        }
    }
}

/// The seed of this run: of the variable `SQUILLA_SEED`, else another each time. It is printed.
pub(crate) fn seed() -> u64 {
    let told = std::env::var("SQUILLA_SEED").ok().map(|text| text.parse().expect("SQUILLA_SEED is a number"));
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
    let seed = told.unwrap_or(since.as_nanos() as u64);
    println!("seed {seed}: run it again with SQUILLA_SEED={seed}");
    seed
}
