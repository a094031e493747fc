//! What unit tests share.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it, and each system and feature has tests of its own"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory that no other test uses. Dropping it removes it.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Directory {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("pipetalk-unit-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // One that an earlier process of the same id has left.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Directory(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// xorshift64*, whose numbers are the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap();
        usize::try_from((self.next() >> 16) % limit).unwrap()
    }

    /// A byte as formats like them: mostly a small number or a mark.
    pub(crate) fn byte(&mut self) -> u8 {
        let any = self.next().to_be_bytes()[0];
        match self.below(4) {
            0 => any,
            1 => 0xf8 | any,
            _ => any % 8,
        }
    }
}

/// What a fuzz target has found worth keeping.
pub(crate) fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
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
