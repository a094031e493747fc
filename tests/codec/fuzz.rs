//! The fuzz target as a test: the corpus, what is left of it when bytes change, and bytes at random.

use std::fs;
use std::path::Path;

#[path = "arbitrary.rs"]
mod target;

/// How many cases at random; each is decoded into more than a dozen types by each codec.
const CASES: u32 = 20_000;

fn corpus() -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/codec");
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) => {
            // A published crate comes without it.
            println!("no corpus in {}: {error}", directory.display());
            return Vec::new();
        }
    };
    entries
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect()
}

/// xorshift64*, whose numbers are the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap();
        usize::try_from((self.next() >> 16) % limit).unwrap()
    }

    /// A byte as formats like them: mostly a small number or a mark.
    fn byte(&mut self) -> u8 {
        let any = self.next().to_be_bytes()[0];
        match self.below(4) {
            0 => any,
            1 => 0xf8 | any,
            _ => any % 8,
        }
    }
}

#[test]
fn the_corpus_is_harmless() {
    let _limit = util::limit(util::here!());
    for case in corpus() {
        target::run(&case);
        for end in 0..case.len() {
            target::run(&case[..end]);
        }
    }
}

#[test]
fn a_changed_corpus_is_harmless() {
    let _limit = util::limit(util::here!());
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for case in corpus() {
        for _ in 0..200 {
            let mut case = case.clone();
            for _ in 0..=random.below(3) {
                if !case.is_empty() {
                    let at = random.below(case.len());
                    case[at] = random.byte();
                }
            }
            target::run(&case);
        }
    }
}

#[test]
fn bytes_at_random_are_harmless() {
    let _limit = util::limit(util::here!());
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for _ in 0..util::rounds(CASES) {
        let len = random.below(40);
        let case: Vec<u8> = (0..len).map(|_| random.byte()).collect();
        target::run(&case);
    }
}
